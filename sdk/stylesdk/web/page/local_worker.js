"use strict";
(function (stylesdk) {
  /**
   * What runs in the worker: a model in onnxruntime-web, one frame at a time. It uses nothing from outside but
   * `pixels`, as its text becomes the worker's script.
   */
  stylesdk.localWorker = function ({ bgrFromRgba, rgbaFromBgr, recolored, Smoother }) {
    const NEAR = 2; // of 255: as far as another order of the same sums may lead
    const FADE = 500; // ms from one style to another
    const THREADS = 4; // at most: more have not enough to do
    const PATIENCE = 20000; // ms: a GPU in trouble may never answer
    const smoother = new Smoother();
    let onnx, styles, codes, session, backend, running;
    let weights, before, settings; // of the frame before

    /** @param {string} text gzip in base64 @returns {Promise<Uint8Array>} */
    async function unpacked(text) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    }

    const asUrl = (script) => URL.createObjectURL(new Blob([script], { type: "text/javascript" }));

    /** @returns {Promise<string>} the backend: webgpu, where it draws what WASM draws, else wasm */
    async function open({ runtime, model, count, table, wanted }) {
      const [library, glue, wasm] = await Promise.all(runtime.map(unpacked));
      importScripts(asUrl(library));
      ort.env.logLevel = "error";
      ort.env.wasm.wasmBinary = wasm.buffer;
      ort.env.wasm.wasmPaths = { mjs: asUrl(glue) };
      ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, THREADS) : 1;
      onnx = await unpacked(model);
      styles = count;
      codes = table;
      await use("wasm");
      if (await mayUseGpu(wanted)) await tryGpu();
      return backend;
    }

    async function mayUseGpu(wanted) {
      const asked = wanted !== "wasm" && navigator.gpu?.requestAdapter();
      const adapter = asked && (await answered(asked, "webgpu").catch(() => null));
      // A GPU that is computed by the CPU is slower than the CPU.
      return adapter && (wanted === "webgpu" || !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter));
    }

    async function use(name) {
      const created = ort.InferenceSession.create(onnx, { executionProviders: [name], logSeverityLevel: 3 });
      session = await answered(created, name);
      backend = name;
    }

    /** What `promise` brings; of a GPU, an error where that takes too long. */
    function answered(promise, name) {
      if (name === "wasm") return promise;
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no answer in ${PATIENCE / 1000} s`)), PATIENCE);
        promise.then(resolve, reject).finally(() => clearTimeout(timer));
      });
    }

    /** Frees a session, once it has nothing under way. */
    function dismiss(unfit) {
      running
        .catch(() => {})
        .then(() => unfit.release())
        .catch(() => {}); // its GPU is gone
    }

    async function tryGpu() {
      const sure = session;
      const [width, height] = [75, 51]; // no multiples of a stride
      const frame = Uint8Array.from({ length: width * height * 3 }, (_, at) => (at * at * 7 + at * 31) >> 4);
      const first = Float32Array.from({ length: styles }, (_, style) => +!style);
      const expected = await infer(frame, width, height, 1, first);
      try {
        await use("webgpu");
        const found = await infer(frame, width, height, 1, first);
        if (found.every((value, at) => Math.abs(value - expected[at]) <= NEAR)) return await sure.release();
        console.info("stylesdk: WebGPU draws something else than WASM, so WASM is used");
      } catch (error) {
        console.info(`stylesdk: no WebGPU, so WASM is used: ${reason(error)}`);
      }
      if (session !== sure) dismiss(session);
      session = sure;
      backend = "wasm";
    }

    async function infer(frame, width, height, strength, mix) {
      const feeds = {
        frame: new ort.Tensor("uint8", frame, [1, height, width, 3]),
        strength: new ort.Tensor("float32", Float32Array.of(strength), [1]),
      };
      if (codes || styles > 1) feeds.style = given(mix);
      running = session.run(feeds);
      const { styled } = await answered(running, backend);
      const data = await styled.getData();
      styled.dispose();
      return data;
    }

    /** What the model takes as style: the weights, or, where styles are codes, the mix of these. */
    function given(mix) {
      const mixed = (_, at) => mix.reduce((sum, weight, style) => sum + weight * codes[style][at], 0);
      const values = codes ? Float32Array.from(codes[0], mixed) : mix;
      return new ort.Tensor("float32", values, [values.length]);
    }

    /** As `infer`; a GPU that is lost, as after sleep or an update of its driver, is done without. */
    async function surelyInferred(...args) {
      try {
        return await infer(...args);
      } catch (error) {
        if (backend === "wasm") throw error;
        console.info(`stylesdk: WebGPU failed, so WASM is used: ${reason(error)}`);
        dismiss(session);
        await use("wasm");
        return infer(...args);
      }
    }

    /** Styles an RGBA picture in place. `live`: it follows the one before, fading and steadied. */
    async function style({ image, width, height, look, live, now }) {
      const rgba = new Uint8ClampedArray(image);
      const photo = bgrFromRgba(rgba);
      const mix = live ? faded(look.weights, now) : look.weights;
      let styled = await surelyInferred(photo, width, height, look.strength, mix);
      if (look.keep_color) styled = recolored(styled, photo);
      if (live) styled = steadied(photo, styled, width, height, look, mix);
      rgbaFromBgr(styled, rgba);
      return { image, backend };
    }

    /** The weights of this frame, on their way to the look's. */
    function faded(goal, now) {
      const way = weights ? distance(goal, weights) : 0;
      const step = (now - before) / FADE;
      weights = step < way ? weights.map((weight, at) => weight + (step / way) * (goal[at] - weight)) : goal;
      before = now;
      return weights;
    }

    /** From one mix to another; 1 is from a style to another style. */
    const distance = (a, b) => a.reduce((sum, weight, at) => sum + Math.abs(weight - b[at]), 0) / 2;

    function steadied(photo, styled, width, height, { strength, keep_color, smoothing }, mix) {
      const past = settings;
      settings = { strength, keep_color, mix };
      const same = past && past.keep_color === keep_color;
      const control = same ? Math.abs(strength - past.strength) + distance(mix, past.mix) : 1;
      return smoother.smooth(photo, styled, width, height, smoothing, control);
    }

    const reason = (error) => error?.message ?? String(error);

    onmessage = async ({ data: { id, command, value } }) => {
      try {
        const reply = await { open, style }[command](value);
        postMessage({ id, reply }, reply.image ? [reply.image] : []);
      } catch (error) {
        postMessage({ id, error: reason(error) });
      }
    };
  };
})((window.stylesdk ||= {}));
