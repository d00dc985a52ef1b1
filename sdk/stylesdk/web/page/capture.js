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

    /** @throws {DOMException} where the browser cannot record this; then nothing runs */
    start() {
      const played = stylesdk.streamOf(this._video);
      const [picture] = this._canvas.captureStream().getVideoTracks();
      this._release = () => {
        picture.stop();
        played.release();
      };
      try {
        this._recorder = this._begun([picture, ...(played.stream?.getAudioTracks() || [])]);
      } catch (error) {
        this._release();
        throw error;
      }
    }

    _begun(tracks) {
      const mimeType = FORMATS.find((format) => MediaRecorder.isTypeSupported(format));
      const recorder = new MediaRecorder(new MediaStream(tracks), { mimeType, videoBitsPerSecond: BITRATE });
      const pieces = (this._pieces = []);
      recorder.ondataavailable = ({ data }) => pieces.push(data);
      recorder.start(PIECE);
      return recorder;
    }

    /** Ends the film and offers it. */
    async stop(style) {
      const recorder = this._recorder;
      if (!recorder) return;
      const [pieces, release] = [this._pieces, this._release]; // another film may begin before this one is saved
      this._recorder = null;
      if (recorder.state !== "inactive") {
        const stopped = new Promise((resolve) => (recorder.onstop = resolve));
        recorder.stop();
        await stopped;
      }
      release();
      const type = recorder.mimeType.split(";")[0];
      save(new Blob(pieces, { type }), style, type.split("/")[1]);
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
