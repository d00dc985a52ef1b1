"use strict";
(function (stylesdk) {
  const SLOW = 125; // ms a frame, above which frames are made smaller
  const LEAST_SIDE = 240; // pixels of the longer side, below which they are not
  const WARM_UP = 2; // frames of a new size that take longer
  const TRIED = 6; // frames of a size that show how fast it is
  const RECENT = 100; // frames in the percentiles
  const CANNOT = "Use a current Chrome, Edge, Firefox or Safari, and reload the page.";

  /** Styles in this browser: the same interface as RemoteEngine. Nothing leaves the machine. */
  class LocalEngine {
    /** @param {Config & {model: string, runtime: string[], megabytes: number}} config */
    constructor(config) {
      this.onfigures = (/** @type {Figures} */ _figures) => {};
      this.onstate = (/** @type {State} */ _state, /** @type {string} */ _message) => {};
      this.onframe = () => {};
      this._config = config;
      this._look = {};
      this._side = config.limits.max_side;
      this._session = 0;
      this._asked = new Map(); // number -> what waits for the worker's answer
      this._count = 0;
      this.setLook(config.default);
    }

    /**
     * Styles `video`, which plays, onto `canvas` until `stop`: always the newest frame, one at a time.
     * Resolves at once: how it goes is told by `onstate`.
     */
    async start(video, canvas) {
      this.stop();
      const session = this._session;
      const alive = () => session === this._session;
      void this._play(video, canvas, alive).catch((error) => {
        if (alive()) this.onstate("refused", `${error.message}. ${CANNOT}`);
      });
    }

    /** The model stays open: the next start is immediate. */
    stop() {
      this._session++;
      this._leave?.();
      this.onstate("idle", "");
    }

    /** @param {Look} look any part of it; the rest stays */
    setLook(look) {
      const { style, ...rest } = look;
      Object.assign(this._look, rest);
      if (style) this._look.weights = this._weights(style);
    }

    /**
     * Styles one picture as it is, in its own size, without smoothing.
     * @param {ImageData} picture @returns {Promise<ImageData>} another one
     */
    async run(picture) {
      await this._open();
      return this._style({ data: picture.data.slice(), width: picture.width, height: picture.height }, false);
    }

    /** A weight for each style, with sum 1. */
    _weights(style) {
      const names = this._config.styles.map(({ name }) => name);
      const values = names.map((name) => style[name] || 0);
      const sum = values.reduce((total, value) => total + value, 0);
      if (!(sum > 0) || Object.keys(style).some((name) => !names.includes(name))) {
        throw new Error(`got: style ${JSON.stringify(style)}; expected: weights above 0 of ${names.join(", ")}`);
      }
      return Float32Array.from(values, (value) => value / sum);
    }

    async _play(video, canvas, alive) {
      this.onstate("loading", `Loading the style, ${this._config.megabytes} MB …`);
      await this._open();
      if (!alive()) return;
      const frames = new Frames(video);
      this._leave = frames.stop;
      const grabber = document.createElement("canvas").getContext("2d", { alpha: false, willReadFrequently: true });
      const screen = canvas.getContext("2d");
      const figures = new FrameFigures();
      for (let drawn = 0; ; ) {
        const arrived = await frames.newest();
        const started = performance.now();
        const photo = alive() && grabbed(video, grabber, this._side);
        if (!alive()) return;
        if (!photo) continue;
        const styled = await this._style(photo, true);
        if (!alive()) return;
        resize(canvas, styled.width, styled.height);
        screen.putImageData(styled, 0, 0);
        if (!drawn++) this.onstate("live", "");
        this.onframe();
        figures.add(performance.now() - started, performance.now() - arrived);
        if (figures.due()) this.onfigures({ ...figures.take(), dropped: frames.dropped, ...this._names(styled) });
        this._keepUp(figures, styled);
      }
    }

    /** Halves the frames' sides where they take too long. */
    _keepUp(figures, { width, height }) {
      const smaller = Math.max(width, height) / 2;
      if (!(figures.ofThisSize() > SLOW) || smaller < LEAST_SIDE) return;
      this._side = smaller;
      figures.anotherSize();
      this.onstate("live", `This machine styles ${width}x${height} slowly, so frames are made smaller.`);
    }

    _names({ width, height }) {
      return { backend: `${this._config.backend} (${this._backend})`, transport: `this browser, ${width}x${height}` };
    }

    /** Gives the pixels of `picture` away. @returns {Promise<ImageData>} */
    async _style({ data, width, height }, live) {
      const value = { image: data.buffer, width, height, live, look: this._look, now: performance.now() };
      const { image, backend } = await this._ask("style", value, [data.buffer]);
      this._backend = backend;
      return new ImageData(new Uint8ClampedArray(image), width, height);
    }

    /** Loads runtime and model, once. */
    _open() {
      this._opening ??= this._openWorker().catch((error) => {
        this._close(error.message);
        throw error;
      });
      return this._opening;
    }

    async _openWorker() {
      const [model, ...runtime] = await Promise.all([this._config.model, ...this._config.runtime].map(loaded));
      const source = `(${stylesdk.localWorker})((${stylesdk.pixels})());`;
      this._worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
      this._worker.onmessage = ({ data }) => this._answer(data);
      this._worker.onerror = (event) => this._close(event.message || "the worker failed");
      const wanted = new URLSearchParams(location.search).get("backend");
      const { styles, codes: table } = this._config;
      this._backend = await this._ask("open", { runtime, model, count: styles.length, table, wanted }, []);
    }

    _ask(command, value, transfer) {
      const id = this._count++;
      this._worker.postMessage({ id, command, value }, transfer);
      return new Promise((resolve, reject) => this._asked.set(id, { resolve, reject }));
    }

    _answer({ id, reply, error }) {
      if (error !== undefined) return this._close(error);
      this._asked.get(id).resolve(reply);
      this._asked.delete(id);
    }

    /** A worker that failed once is in no known state: the next start opens another one. */
    _close(reason) {
      this._worker?.terminate();
      this._opening = undefined;
      for (const { reject } of this._asked.values()) reject(new Error(reason));
      this._asked.clear();
    }
  }

  /** The newest frame of a video, and how many nobody took. */
  class Frames {
    constructor(video) {
      this.dropped = 0;
      this.stop = stylesdk.eachFrame(video, () => {
        if (this._arrived !== undefined) this.dropped++;
        this._arrived = performance.now();
        this._wake?.();
      });
    }

    /** @returns {Promise<number>} when it arrived, once there is one that was not taken yet */
    async newest() {
      while (this._arrived === undefined) await new Promise((resolve) => (this._wake = resolve));
      const arrived = this._arrived;
      this._arrived = undefined;
      return arrived;
    }
  }

  /** Rate, times and age of the frames drawn. */
  class FrameFigures {
    constructor() {
      this._since = performance.now();
      this._frames = 0;
      this._times = [];
      this._sizes = 0; // frames of this size
    }

    add(time, age) {
      this._frames++;
      this._sizes++;
      this._times.push(time);
      if (this._times.length > RECENT) this._times.shift();
      this._age = age;
    }

    due() {
      return performance.now() - this._since > 1000;
    }

    take() {
      const now = performance.now();
      const fps = (1000 * this._frames) / (now - this._since);
      this._since = now;
      this._frames = 0;
      return { fps, p50: percentile(this._times, 0.5), p99: percentile(this._times, 0.99), age: this._age };
    }

    /** The median time of the last frames, once there are enough of this size. @returns {number|undefined} */
    ofThisSize() {
      return this._sizes < TRIED + WARM_UP ? undefined : percentile(this._times.slice(-TRIED), 0.5);
    }

    anotherSize() {
      this._sizes = 0;
      this._times = [];
    }
  }

  function percentile(values, share) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.round(share * (sorted.length - 1))];
  }

  /** The video's picture, its longer side at most `side`; null while it has none. */
  function grabbed(video, context, side) {
    const [width, height] = stylesdk.fittedSize(video, side);
    if (!width) return null;
    stylesdk.draw(context.canvas, video, width, height);
    return context.getImageData(0, 0, width, height);
  }

  function resize(canvas, width, height) {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }

  /** The file that a script of `stylesdk serve --static` holds, handed over once. @returns {Promise<string>} */
  async function loaded(address) {
    await new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${address} is not beside this page, or did not come whole`));
      script.src = address;
      document.head.append(script);
      script.remove();
    });
    const text = stylesdk.assets[address];
    delete stylesdk.assets[address];
    return text;
  }

  stylesdk.LocalEngine = LocalEngine;
})((window.stylesdk ||= {}));
