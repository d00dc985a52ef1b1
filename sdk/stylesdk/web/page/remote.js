"use strict";
/**
 * @typedef {{style?: Object<string, number>, strength?: number, keep_color?: boolean, smoothing?: number}} Look
 * @typedef {{fps: number, p50: number, p99: number, age: number, dropped: number, backend: string,
 *   transport: string}} Figures times in ms
 * @typedef {"idle"|"loading"|"connecting"|"live"|"lost"|"refused"} State lost: it tries again; refused: it gave up
 * @typedef {{mode: string, version: string, backend: string, default: Look, transports?: string[],
 *   styles: {name: string, title: string, thumbnail: string}[],
 *   limits: {max_side: number, max_bytes?: number}}} Config
 * @typedef {{why: "away"|"busy"|"refused"|"unfit", message: string}} Ending how a link ended: the server is not
 *   there, has no place, wants none of this, or cannot be reached in this way
 * @typedef {{open: () => void, message: (message: object) => void, frame: (age?: number) => void}} Hooks
 */
(function (stylesdk) {
  const FIRST_WAIT = 500; // ms; twice as long each time
  const LONGEST_WAIT = 8000;
  const SILENCE = 8000; // ms without a word, after which a connection is taken for dead
  const BETWEEN_LOOKS = 60; // ms: a slider that is dragged must not look like a flood
  const TEXT = {
    away: "The server does not answer. Trying again …",
    busy: "All places are taken. Trying again until one is free …",
    refused: "The server refused this page. Reload it.",
    changed: "The server was started with other styles. Reload this page.",
    token: "The server wants its token. Open the address that it printed, with ?token= at the end.",
  };

  /** Styles on a server: the same interface as LocalEngine. */
  class RemoteEngine {
    /** @param {Config} config */
    constructor(config) {
      this.onfigures = (/** @type {Figures} */ _figures) => {};
      this.onstate = (/** @type {State} */ _state, /** @type {string} */ _message) => {};
      this.onframe = () => {};
      this._config = config;
      this._look = { ...config.default };
      this._session = 0;
      this._link = null;
      this._remembered = new stylesdk.Remembered("sessionStorage", "stylesdk.transport");
    }

    /**
     * Styles `video`, which plays, onto `canvas` until `stop`, over as many connections as that takes.
     * Resolves at once: how it goes is told by `onstate`.
     */
    async start(video, canvas) {
      this.stop();
      const session = this._session;
      const alive = () => session === this._session;
      void this._keepConnected(video, canvas, alive).catch((error) => {
        if (alive()) this.onstate("refused", `${error.message}. Reload this page.`);
      });
    }

    stop() {
      this._session++;
      this._link?.close();
      this._link = null;
      this.onstate("idle", "");
    }

    /** @param {Look} look any part of it; the rest stays */
    setLook(look) {
      Object.assign(this._look, look);
      this._lookTimer ??= setTimeout(() => {
        this._lookTimer = undefined;
        this._link?.send({ look: this._look });
      }, BETWEEN_LOOKS);
    }

    async _keepConnected(video, canvas, alive) {
      let wait = FIRST_WAIT;
      this.onstate("connecting", "Connecting …");
      while (alive()) {
        const started = performance.now();
        let ending = await serverTrouble(this._config);
        if (!ending && alive()) ending = await this._connectOnce(video, canvas, alive);
        if (!alive()) return;
        if (ending.why === "unfit" && this._transport(video) === "webrtc" && !forced()) {
          this._remembered.value = "websocket";
          continue;
        }
        if (ending.why === "refused") return this.onstate("refused", ending.message || TEXT.refused);
        if (ending.why === "busy") this.onstate("lost", TEXT.busy);
        else this.onstate("lost", ending.message ? `${ending.message} Trying again …` : TEXT.away);
        if (performance.now() - started > LONGEST_WAIT) wait = FIRST_WAIT;
        await pause(wait);
        wait = Math.min(wait * 2, LONGEST_WAIT);
      }
    }

    async _connectOnce(video, canvas, alive) {
      let heard = performance.now();
      const counted = new Counter();
      const Link = this._transport(video) === "webrtc" ? stylesdk.PeerLink : stylesdk.SocketLink;
      const link = new Link(video, canvas, this._config, {
        open: () => link.send({ look: this._look }),
        message: (message) => {
          heard = performance.now();
          if (message.figures) this._tellFigures({ ...message.figures, transport: link.name }, counted);
        },
        frame: (age) => {
          if (!alive()) return;
          heard = performance.now();
          if (counted.add(heard, age)) this.onstate("live", "");
          this.onframe();
        },
      });
      this._link = link;
      const wake = () => (heard = performance.now()); // nothing is drawn, so nothing heard, in a hidden tab
      document.addEventListener("visibilitychange", wake);
      const watch = setInterval(() => {
        if (!document.hidden && performance.now() - heard > (link.patience || SILENCE)) link.close();
      }, 1000);
      try {
        return await link.run();
      } finally {
        clearInterval(watch);
        document.removeEventListener("visibilitychange", wake);
      }
    }

    /** The server's figures, but the rate and age of what is seen here, where that is known. */
    _tellFigures(figures, counted) {
      const seen = counted.take(performance.now());
      this.onfigures({ ...figures, ...seen });
    }

    _transport(video) {
      const offered = this._config.transports || ["websocket"];
      const wanted = forced() || this._remembered.value || offered[0];
      return offered.includes(wanted) && stylesdk.PeerLink.fits(video) ? wanted : "websocket";
    }
  }

  /** Frames drawn, and how old they were. */
  class Counter {
    constructor() {
      this._since = performance.now();
      this._first = true;
      this._frames = 0;
      this._ages = [];
    }

    /** @returns {boolean} whether this was the first */
    add(now, age) {
      const first = this._first;
      this._first = false;
      this._frames++;
      if (age !== undefined) this._ages.push(age);
      return first;
    }

    take(now) {
      const seen = { fps: (1000 * this._frames) / Math.max(now - this._since, 1) };
      if (this._ages.length) seen.age = this._ages.sort((a, b) => a - b)[this._ages.length >> 1];
      this._since = now;
      this._frames = 0;
      this._ages = [];
      return seen;
    }
  }

  const forced = () => new URLSearchParams(location.search).get("transport");

  /** What speaks against connecting. @returns {Promise<Ending|null>} */
  async function serverTrouble(config) {
    const away = { why: "away", message: "" };
    try {
      const signal = AbortSignal.timeout?.(SILENCE); // Safari 15 has none
      const reply = await fetch("config.js", { cache: "no-store", signal });
      if (reply.status === 401) return { why: "refused", message: TEXT.token };
      if (!reply.ok) return away;
      const text = await reply.text();
      const { styles } = JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
      const same = String(styles.map(({ name }) => name)) === String(config.styles.map(({ name }) => name));
      return same ? null : { why: "refused", message: TEXT.changed };
    } catch {
      return away;
    }
  }

  /** Waits, at most until the network or the tab comes back, and at least until the tab is seen. */
  function pause(ms) {
    return new Promise((resolve) => {
      const go = () => {
        if (document.hidden) return;
        clearTimeout(timer);
        document.removeEventListener("visibilitychange", go);
        window.removeEventListener("online", go);
        resolve();
      };
      const timer = setTimeout(go, ms);
      document.addEventListener("visibilitychange", go);
      window.addEventListener("online", go);
    });
  }

  /** Posts JSON, until `signal` ends it. @returns {Promise<{ok: boolean, body?: object, ending?: Ending}>} */
  stylesdk.post = async (path, message, signal) => {
    let reply, body;
    try {
      const headers = { "Content-Type": "application/json" };
      reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(message), signal });
      body = await reply.json().catch(() => ({}));
    } catch {
      return { ok: false, ending: { why: "away", message: "" } };
    }
    if (reply.ok) return { ok: true, body };
    if (reply.status === 503 || reply.status === 429) return { ok: false, ending: { why: "busy", message: "" } };
    const refused = reply.status === 401 || reply.status === 403;
    const message_ = body.error ? stylesdk.troubleText(body.error) : reply.status === 401 ? TEXT.token : "";
    return { ok: false, ending: { why: refused ? "refused" : "unfit", message: message_ } };
  };

  /** What the server says is wrong, for people. */
  stylesdk.troubleText = ({ got, expected, do: advice }) =>
    [got && `${got}.`, expected && `Expected: ${expected}.`, advice && `${advice}.`].filter(Boolean).join(" ");

  stylesdk.RemoteEngine = RemoteEngine;
})((window.stylesdk ||= {}));
