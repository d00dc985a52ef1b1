"use strict";
(function (stylesdk) {
  const CONNECT = 4000; // ms until another way is tried
  const FIRST_FRAME = 10000; // ms
  const GATHER = 1000; // ms: without a STUN server, addresses are there at once
  const TRY_AGAIN = [1001, 1011, 1013]; // codes of what may be better the next time
  const BITRATE = 6e6; // bits a second at most: a picture, not a video call

  /** Frames to the server and back over WebRTC, and a data channel for the rest. */
  class PeerLink {
    /** As of SocketLink. */
    constructor(video, canvas, config, hooks) {
      this.name = "WebRTC";
      this._video = video;
      this._canvas = canvas;
      this._limits = config.limits;
      this._hooks = hooks;
      this._trouble = "";
      this._asking = new AbortController();
      this._stops = [() => this._asking.abort()];
      this._ended = new Promise((resolve) => (this._end = resolve));
    }

    /** Whether it can be tried with what `video` plays. Of a canvas, Chromium sends colours of another range. */
    static fits(video) {
      const drawn = video.srcObject?.getVideoTracks()[0]?.canvas;
      return Boolean(window.RTCPeerConnection) && stylesdk.hasStream(video) && !drawn;
    }

    /** Connects and goes on until it ends. @returns {Promise<Ending>} */
    async run() {
      this._connect().catch((error) => this._end({ why: "unfit", message: String(error) }));
      const ending = await this._ended;
      this._stops.forEach((stop) => stop());
      this._peer?.close();
      return { message: this._trouble, ...ending };
    }

    /** @param {object} message */
    send(message) {
      if (this._control?.readyState === "open") this._control.send(JSON.stringify(message));
    }

    close() {
      this._end({ why: "away" });
    }

    _openControl() {
      this._control = this._peer.createDataChannel("control");
      this._control.onopen = () => this._hooks.open();
      this._control.onclose = () => this._end({ why: "away" }); // even if refused: it may be for having slept
      this._control.onmessage = ({ data }) => void this._hear(JSON.parse(data));
    }

    async _hear(message) {
      if (message.error) {
        this._trouble = stylesdk.troubleText(message.error);
        if (!TRY_AGAIN.includes(message.error.code)) this._end({ why: "refused" });
      }
      if (message.figures) message.figures.age += await this._underway();
      this._hooks.message(message);
    }

    /** Milliseconds that frames spend outside the server: on the network, and waiting to be shown. */
    async _underway() {
      let sum = 0;
      for (const report of (await this._peer.getStats()).values()) {
        if (report.type === "candidate-pair" && report.nominated) sum += 1000 * (report.currentRoundTripTime || 0);
        if (report.type === "inbound-rtp" && report.jitterBufferEmittedCount)
          sum += (1000 * report.jitterBufferDelay) / report.jitterBufferEmittedCount;
      }
      return sum;
    }

    async _connect() {
      const { stream, release } = stylesdk.streamOf(this._video);
      this._stops.push(release);
      this._peer = new RTCPeerConnection({ iceServers: [] });
      this._peer.ontrack = (event) => this._receive(event.track);
      this._peer.onconnectionstatechange = () => {
        if (["failed", "closed"].includes(this._peer.connectionState)) this._end({ why: "away" });
      };
      this._openControl();
      this._after(CONNECT, () => this._control.readyState === "connecting" && this._end({ why: "unfit" }));
      await this._offer(stream);
    }

    async _offer(stream) {
      const options = { direction: "sendrecv", streams: [stream] };
      const { sender } = this._peer.addTransceiver(stream.getVideoTracks()[0], options);
      await this._peer.setLocalDescription();
      await this._gathered();
      const { sdp, type } = this._peer.localDescription;
      const reply = await stylesdk.post("offer", { sdp, type }, this._asking.signal);
      if (!reply.ok) return this._end(reply.ending);
      await this._limit(sender); // before the first frame goes out
      await this._peer.setRemoteDescription(reply.body);
      await this._limit(sender); // where a browser did not take it before
    }

    /** No larger than the server takes, and rather slower than smaller. */
    async _limit(sender) {
      const parameters = sender.getParameters();
      const [width] = stylesdk.fittedSize(this._video, this._limits.max_side);
      for (const encoding of parameters.encodings || []) {
        encoding.scaleResolutionDownBy = Math.max(1, this._video.videoWidth / width);
        encoding.maxBitrate = BITRATE;
      }
      parameters.degradationPreference = "maintain-resolution";
      await sender.setParameters(parameters).catch(() => {}); // a wish: not every browser grants it
    }

    _gathered() {
      return new Promise((resolve) => {
        const check = () => this._peer.iceGatheringState === "complete" && resolve();
        this._peer.onicegatheringstatechange = check;
        this._after(GATHER, resolve);
        check();
      });
    }

    _receive(track) {
      const styled = document.createElement("video");
      styled.muted = styled.playsInline = true;
      styled.srcObject = new MediaStream([track]);
      let seen = false;
      this._stops.push(
        stylesdk.keepPlaying(styled),
        stylesdk.eachFrame(styled, () => {
          const [width, height] = stylesdk.fittedSize(this._video, this._limits.max_side);
          if (!width || !styled.videoWidth) return;
          seen = true;
          stylesdk.draw(this._canvas, styled, width, height);
          this._hooks.frame();
        }),
      );
      this._after(FIRST_FRAME, () => seen || document.hidden || this._end({ why: "unfit" }));
    }

    _after(ms, act) {
      const timer = setTimeout(act, ms);
      this._stops.push(() => clearTimeout(timer));
    }
  }

  stylesdk.PeerLink = PeerLink;
})((window.stylesdk ||= {}));
