"use strict";
/** Pictures and films of the styled canvas, saved on the user's side. */
(function (stylesdk) {
  const FORMATS = ["video/webm;codecs=vp9,opus", "video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
  const BITRATE = 8e6; // bits a second
  const PIECE = 1000; // ms of film that may be lost if the browser dies

  /** Offers the canvas as a PNG. */
  stylesdk.saveSnapshot = async (canvas, style) => {
    const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    save(png, style, "png");
  };

  /** Records the canvas, with the sound of `video` where it has some. */
  class Recorder {
    constructor(canvas, video) {
      this._canvas = canvas;
      this._video = video;
    }

    static get works() {
      return Boolean(window.MediaRecorder && HTMLCanvasElement.prototype.captureStream);
    }

    get running() {
      return Boolean(this._recorder);
    }

    start() {
      const sound = stylesdk.streamOf(this._video)?.getAudioTracks() || [];
      const stream = new MediaStream([...this._canvas.captureStream().getVideoTracks(), ...sound]);
      const mimeType = FORMATS.find((format) => MediaRecorder.isTypeSupported(format));
      this._pieces = [];
      this._recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: BITRATE });
      this._recorder.ondataavailable = ({ data }) => this._pieces.push(data);
      this._recorder.start(PIECE);
    }

    /** Ends the film and offers it. */
    async stop(style) {
      const recorder = this._recorder;
      if (!recorder) return;
      this._recorder = null;
      if (recorder.state !== "inactive") {
        const stopped = new Promise((resolve) => (recorder.onstop = resolve));
        recorder.stop();
        await stopped;
      }
      const type = recorder.mimeType.split(";")[0];
      save(new Blob(this._pieces, { type }), style, type.split("/")[1]);
    }
  }

  function save(blob, style, ending) {
    const now = new Date();
    const local = new Date(now - now.getTimezoneOffset() * 60000).toISOString();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${style}-${local.slice(0, 19).replace(/[-:]/g, "").replace("T", "-")}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000); // it may still be read
  }

  stylesdk.Recorder = Recorder;
})((window.stylesdk ||= {}));
