"use strict";
/** Frames of a <video>, as every engine needs them. */
(function (stylesdk) {
  /**
   * The video's own size, made smaller where its longest side is over `longest`, or where it has more pixels than a
   * 16:9 picture of that side; then even, as codecs like it. [0, 0] while the size is not known.
   * @returns {[number, number]} width and height in pixels
   */
  stylesdk.fittedSize = (video, longest) => {
    const { videoWidth: width, videoHeight: height } = video;
    if (!width || !height) return [0, 0];
    const most = (longest * longest * 9) / 16;
    const scale = Math.min(longest / Math.max(width, height), Math.sqrt(most / (width * height)));
    if (scale >= 1) return [width, height];
    const even = (side) => Math.max(2, 2 * Math.floor((side * scale) / 2));
    return [even(width), even(height)];
  };

  /** Calls `act` with each new frame of `video`, until the function that is returned is called. */
  stylesdk.eachFrame = (video, act) => {
    const own = "requestVideoFrameCallback" in video;
    let handle, last;
    const ask = () => (handle = own ? video.requestVideoFrameCallback(tick) : requestAnimationFrame(tick));
    const tick = () => {
      if (own || video.currentTime !== last) act();
      last = video.currentTime;
      ask();
    };
    ask();
    return () => (own ? video.cancelVideoFrameCallback(handle) : cancelAnimationFrame(handle));
  };

  /** A canvas that nobody sees. */
  stylesdk.sheet = () => (window.OffscreenCanvas ? new OffscreenCanvas(2, 2) : document.createElement("canvas"));

  /** Draws `picture` over all of `canvas`, which gets the size if it has another. */
  stylesdk.draw = (canvas, picture, width, height) => {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    canvas.getContext("2d", { alpha: false }).drawImage(picture, 0, 0, width, height);
  };

  /** What `video` plays as a stream, with its sound where it has some; null where the browser cannot. */
  stylesdk.streamOf = (video) => {
    if (video.srcObject) return video.srcObject;
    const capture = video.captureStream || video.mozCaptureStream;
    return capture ? capture.call(video) : null;
  };
})((window.stylesdk ||= {}));
