"use strict";
(function (stylesdk) {
  // Wide enough to look at, small enough for a CPU to keep up.
  const CAMERA = { width: { ideal: 960 }, height: { ideal: 540 }, frameRate: { ideal: 30 } };
  const REDRAW = 100; // ms: a stream of a picture that stands still has frames only when it is drawn
  const LONGEST = 1920; // of a picture
  const ADVICE = {
    NotAllowedError: "The camera is blocked. Allow it beside the address, then press Start. Or open a file.",
    NotFoundError: "There is no camera. Plug one in, then press Start. Or open a file.",
    NotReadableError: "Another program uses the camera. Close it there, then press Start. Or open a file.",
    OverconstrainedError: "That camera is gone. Choose another one, then press Start.",
  };
  const INSECURE =
    "Browsers give the camera to secure pages only: open this page through localhost, an SSH tunnel " +
    "(ssh -L 8000:localhost:8000 HOST) or https. Files work here too.";

  /** What is styled: a camera, a video or a picture, as a <video> that plays. */
  class Source {
    /** @param {HTMLVideoElement} video */
    constructor(video) {
      this.onend = (/** @type {string} what to do about it */ _message) => {};
      this._video = video;
      this._close = () => {};
      this._turn = 0; // what opens after another one was asked for is closed again
    }

    /** @param {string} id as of `cameras`; "" is whichever the browser takes. @throws {Error} for people */
    async openCamera(id) {
      const turn = this.close();
      if (!navigator.mediaDevices) throw new Error(INSECURE);
      const video = { ...CAMERA, ...(id && { deviceId: { exact: id } }) };
      const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false }).catch((error) => {
        const other = `The camera does not open (${error.message}). Try again, or open a file.`;
        throw new Error(ADVICE[error.name] || other);
      });
      stream.getVideoTracks()[0].onended = () => this.onend("The camera is gone. Plug it in, then press Start.");
      await this._play(stream, () => stream.getTracks().forEach((track) => track.stop()), turn);
    }

    /** @param {File} file a video or picture; it stays in the browser. @throws {Error} for people */
    async openFile(file) {
      const turn = this.close();
      const unreadable = new Error(
        `The browser cannot show ${file.name || "this file"}. ` +
          "Open a video (MP4 or WebM with H.264, VP9 or AV1) or a picture (JPEG, PNG, WebP).",
      );
      try {
        await (file.type.startsWith("image/") ? this._openPicture(file, turn) : this._openVideo(file, turn));
      } catch (error) {
        if (turn !== this._turn) throw error;
        this.close();
        throw unreadable;
      }
    }

    /** @returns {number} the turn that begins */
    close() {
      this._close();
      this._close = () => {};
      this._video.pause();
      this._video.srcObject = null;
      this._video.removeAttribute("src");
      this._video.load();
      return ++this._turn;
    }

    /** @returns {Promise<{id: string, name: string}[]>} names are empty until a camera was allowed */
    static async cameras() {
      if (!navigator.mediaDevices) return [];
      const devices = await navigator.mediaDevices.enumerateDevices();
      return devices.filter((d) => d.kind === "videoinput").map((d) => ({ id: d.deviceId, name: d.label }));
    }

    async _openPicture(file, turn) {
      const picture = await createImageBitmap(file);
      const scale = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
      const sheet = document.createElement("canvas");
      sheet.width = Math.max(2, Math.round(picture.width * scale));
      sheet.height = Math.max(2, Math.round(picture.height * scale));
      const draw = () => stylesdk.draw(sheet, picture, sheet.width, sheet.height);
      draw();
      const stream = sheet.captureStream();
      const timer = setInterval(draw, REDRAW);
      const close = () => {
        clearInterval(timer);
        stream.getTracks().forEach((track) => track.stop());
        picture.close();
      };
      await this._play(stream, close, turn);
    }

    async _openVideo(file, turn) {
      const address = URL.createObjectURL(file);
      await this._play(address, () => URL.revokeObjectURL(address), turn);
      if (!this._video.videoWidth) throw new Error("sound only");
    }

    async _play(media, close, turn) {
      if (turn !== this._turn) {
        close();
        throw new Error("overtaken");
      }
      if (typeof media === "string") this._video.src = media;
      else this._video.srcObject = media;
      const leave = stylesdk.keepPlaying(this._video);
      this._close = () => {
        leave();
        close();
      };
      await this._video.play();
    }
  }

  stylesdk.Source = Source;
})((window.stylesdk ||= {}));
