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

  /** Draws `picture` over all of `canvas`, which gets the size if it has another; black where it is transparent. */
  stylesdk.draw = (canvas, picture, width, height) => {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d", { alpha: false });
    context.clearRect(0, 0, width, height);
    context.drawImage(picture, 0, 0, width, height);
  };

  /** Plays `video`, and again when the browser paused it, as in the background; until what is returned is called. */
  stylesdk.keepPlaying = (video) => {
    const play = () => document.hidden || video.play().catch(() => {}); // closed before it began
    const moments = [
      [video, "pause"],
      [document, "visibilitychange"],
      [window, "pageshow"],
    ];
    for (const [target, moment] of moments) target.addEventListener(moment, play);
    video.play().catch(() => {});
    return () => moments.forEach(([target, moment]) => target.removeEventListener(moment, play));
  };

  const capturer = (video) => video.captureStream || video.mozCaptureStream; // Safari has neither

  /** Whether `streamOf` has something to give. */
  stylesdk.hasStream = (video) => Boolean(video.srcObject || capturer(video));

  /**
   * What `video` plays, with its sound where it has some.
   * @returns {{stream: MediaStream|null, release: () => void}} null where the browser cannot; `release` ends what was
   *   captured for this, and nothing else
   */
  stylesdk.streamOf = (video) => {
    if (video.srcObject) return { stream: video.srcObject, release: () => {} };
    const stream = capturer(video)?.call(video) || null;
    return { stream, release: () => stream?.getTracks().forEach((track) => track.stop()) };
  };
})((window.stylesdk ||= {}));
