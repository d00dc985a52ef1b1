"use strict";
(function (stylesdk) {
  const QUALITIES = [0.85, 0.6, 0.3]; // of JPEG: the next where the one before is larger than the server takes
  const IN_FLIGHT = 2; // one is styled while the next one travels
  const PATIENCE = 25000; // ms: words wait behind large frames on a slow network, and the server waits for 20 s
  const SLOW = 1000; // ms that a frame spends on the network, there and back
  const WHY = { 1001: "away", 1006: "away", 1011: "away", 1012: "away", 1013: "busy" };

  /** Frames to the server and back over a WebSocket: JPEGs both ways, the newest first. */
  class SocketLink {
    /**
     * @param {HTMLVideoElement} video what is sent
     * @param {HTMLCanvasElement} canvas where what comes back is drawn
     * @param {Config} config
     * @param {Hooks} hooks
     */
    constructor(video, canvas, config, hooks) {
      this.name = "WebSocket";
      this.patience = PATIENCE;
      this._video = video;
      this._canvas = canvas;
      this._limits = config.limits;
      this._hooks = hooks;
      this._number = 0;
      /** @type {Map<number, number>} frames that travel: number -> when they were taken, ms */
      this._travelling = new Map();
      this._drawn = 0;
      this._halvings = 0; // of the sides of what is sent
      this._slow = this._fast = 0; // frames in a row
      this._waiting = false; // a frame that nobody has sent yet
      this._encoding = false;
      this._trouble = "";
    }

    /** Connects and goes on until it ends. @returns {Promise<Ending>} */
    async run() {
      const address = new URL("ws", location.href);
      address.protocol = address.protocol.replace("http", "ws");
      address.search = address.hash = "";
      this._socket = new WebSocket(address);
      this._socket.binaryType = "arraybuffer";
      const ended = new Promise((resolve) => (this._socket.onclose = resolve));
      this._socket.onmessage = ({ data }) => (typeof data === "string" ? this._hear(data) : this._show(data));
      let stop = () => {};
      this._socket.onopen = () => {
        this._hooks.open();
        stop = stylesdk.eachFrame(this._video, () => this._offer());
      };
      const { code } = await ended;
      stop();
      return { why: WHY[code] || (this._trouble ? "refused" : "away"), message: this._trouble };
    }

    /** @param {object} message */
    send(message) {
      if (this._socket.readyState === WebSocket.OPEN) this._socket.send(JSON.stringify(message));
    }

    close() {
      this._socket?.close();
    }

    _hear(text) {
      const message = JSON.parse(text);
      if (message.error) this._trouble = stylesdk.troubleText(message.error);
      this._hooks.message(message);
    }

    _offer() {
      this._waiting = true;
      void this._pump();
    }

    async _pump() {
      if (!this._waiting || this._encoding || this._travelling.size >= IN_FLIGHT) return;
      this._waiting = false;
      this._encoding = true;
      try {
        const taken = performance.now();
        const jpeg = await this._jpeg();
        if (jpeg && this._socket.readyState === WebSocket.OPEN) this._sendFrame(jpeg, taken);
      } finally {
        this._encoding = false;
      }
      void this._pump();
    }

    _sendFrame(jpeg, taken) {
      const number = ++this._number;
      const packet = new Uint8Array(4 + jpeg.byteLength);
      new DataView(packet.buffer).setUint32(0, number, true);
      packet.set(new Uint8Array(jpeg), 4);
      this._travelling.set(number, taken);
      this._socket.send(packet);
    }

    /** The video's frame as JPEG bytes; null where there is none yet, or none small enough. */
    async _jpeg() {
      const full = stylesdk.fittedSize(this._video, this._limits.max_side);
      const [width, height] = full.map((side) => side >> this._halvings);
      if (!width) return null;
      this._sheet ||= stylesdk.sheet();
      stylesdk.draw(this._sheet, this._video, width, height);
      for (const quality of QUALITIES) {
        const blob = await jpegOf(this._sheet, quality);
        if (blob && blob.size + 4 <= this._limits.max_bytes) return blob.arrayBuffer();
      }
      return null;
    }

    /** Smaller frames where the network takes long for them, larger ones again where it does not. */
    _adapt(ms) {
      this._slow = ms > SLOW ? this._slow + 1 : 0;
      this._fast = ms < SLOW / 4 ? this._fast + 1 : 0;
      const large = Math.min(this._sheet.width, this._sheet.height) >= 128;
      if (this._slow > 2 && large) this._halvings++;
      else if (this._fast > 100 && this._halvings) this._halvings--;
      else return;
      this._slow = this._fast = 0;
    }

    async _show(data) {
      const number = new DataView(data).getUint32(0, true);
      const taken = this._travelling.get(number);
      if (taken !== undefined) this._adapt(performance.now() - taken - new DataView(data).getFloat32(4, true));
      // The server leaves out frames that a newer one overtook: none before this one will come.
      for (const sent of this._travelling.keys()) if (sent <= number) this._travelling.delete(sent);
      void this._pump();
      const picture = await createImageBitmap(new Blob([new Uint8Array(data, 8)], { type: "image/jpeg" }));
      if (number > this._drawn && this._socket.readyState === WebSocket.OPEN) {
        this._drawn = number;
        stylesdk.draw(this._canvas, picture, picture.width, picture.height);
        this._hooks.frame(taken === undefined ? undefined : performance.now() - taken);
      }
      picture.close();
    }
  }

  function jpegOf(sheet, quality) {
    // toBlob waits for an idle moment, convertToBlob does not.
    if (sheet.convertToBlob) return sheet.convertToBlob({ type: "image/jpeg", quality });
    return new Promise((resolve) => sheet.toBlob(resolve, "image/jpeg", quality));
  }

  stylesdk.SocketLink = SocketLink;
})((window.stylesdk ||= {}));
