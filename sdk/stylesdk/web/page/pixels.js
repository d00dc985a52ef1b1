"use strict";
(function (stylesdk) {
  /**
   * Loops over pixels, as stylesdk/frames.py and stylesdk/live/smoothing.py have them. Frames are BGR Uint8Array
   * (height x width x 3). It uses nothing from outside, as its text also goes into the worker.
   */
  stylesdk.pixels = function () {
    const COARSE = 4; // pixels of the photo to one of the map of changes: an average of 16 has a quarter of the noise
    const STILL = 2; // change of that average, of 255: noise at most
    const MOVED = 6; // surely more than noise
    const AROUND = 2; // of the map, to each side: a style moves a little beyond what moves
    const CUT = 0.6; // share of a frame that moved, from which on it is another scene
    const LEAST = 0.2; // share of the noise that is left at most
    const JUMP = 0.1; // share of its way that a control goes in one frame, from which on nothing is kept

    /** @param {Uint8ClampedArray} rgba as ImageData has it @returns {Uint8Array} */
    function bgrFromRgba(rgba) {
      const bgr = new Uint8Array((rgba.length / 4) * 3);
      for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
        bgr[to] = rgba[from + 2];
        bgr[to + 1] = rgba[from + 1];
        bgr[to + 2] = rgba[from];
      }
      return bgr;
    }

    /** @param {Uint8Array} bgr @param {Uint8ClampedArray} rgba is written */
    function rgbaFromBgr(bgr, rgba) {
      for (let from = 0, to = 0; to < rgba.length; from += 3, to += 4) {
        rgba[to] = bgr[from + 2];
        rgba[to + 1] = bgr[from + 1];
        rgba[to + 2] = bgr[from];
        rgba[to + 3] = 255;
      }
    }

    /** BT.601, rounded, with OpenCV's own integers. */
    const luma = (bgr, at) => (3735 * bgr[at] + 19235 * bgr[at + 1] + 9798 * bgr[at + 2] + 16384) >> 15;

    /** The luma of `styled` with the chroma of `photo`: its B, G and R, all moved by the difference in luma. */
    function recolored(styled, photo) {
      const result = new Uint8ClampedArray(photo.length);
      for (let at = 0; at < photo.length; at += 3) {
        const brighter = luma(styled, at) - luma(photo, at);
        for (let c = at; c < at + 3; c++) result[c] = photo[c] + brighter;
      }
      return result;
    }

    /** Averages of 4x4 pixels, blurred: Float32Array (height / 4 x width / 4 x 3). */
    function coarse(photo, width, height, columns, rows) {
      const sums = new Float32Array(columns * rows * 3);
      for (let y = 0, from = 0; y < height; y++) {
        const row = Math.floor(y / COARSE) * columns;
        for (let x = 0; x < width; x++, from += 3) {
          const to = (row + ((x / COARSE) | 0)) * 3;
          sums[to] += photo[from];
          sums[to + 1] += photo[from + 1];
          sums[to + 2] += photo[from + 2];
        }
      }
      for (let y = 0, at = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          const area = Math.min(COARSE, width - x * COARSE) * Math.min(COARSE, height - y * COARSE);
          for (const end = at + 3; at < end; at++) sums[at] /= area * 9; // of a blur over 3x3
        }
      }
      return around(sums, columns, rows, 3, 1, (a, b) => a + b);
    }

    /** Each value joined with those around it, first along rows, then columns; the edge is repeated beyond itself. */
    function around(image, columns, rows, channels, reach, join) {
      const along = (values, count, step, others, stride) => {
        const result = new Float32Array(values.length);
        for (let other = 0; other < others; other++) {
          for (let place = 0; place < count; place++) {
            for (let c = 0; c < channels; c++) {
              const start = other * stride + c;
              let joined = values[start + Math.max(place - reach, 0) * step];
              for (let near = place - reach + 1; near <= place + reach; near++) {
                joined = join(joined, values[start + Math.min(Math.max(near, 0), count - 1) * step]);
              }
              result[start + place * step] = joined;
            }
          }
        }
        return result;
      };
      const line = columns * channels;
      return along(along(image, columns, channels, rows, line), rows, line, columns, channels);
    }

    /** The old frame's weight that leaves a share 1 - `amount` of independent noise. */
    function kept(amount) {
      const left = Math.max(1 - amount, LEAST) ** 2;
      return (1 - left) / (1 + left);
    }

    /** Blends each styled frame with the one before where the photo did not change. */
    class Smoother {
      /** Forget the past: the next frame comes out as it is. */
      reset() {
        this._shown = null; // the result before: Float32Array, as in bytes it would stand still before its goal
        this._seen = null; // the photo in it, coarse
      }

      /**
       * The next frame, steadied by `amount`, 0-1. `control`: how far the controls of the style went, of all their
       * way. After another size, a cut or a jump of the controls it is `styled`.
       */
      smooth(photo, styled, width, height, amount, control = 0) {
        if (!amount) {
          this.reset();
          return styled;
        }
        const columns = Math.ceil(width / COARSE);
        const rows = Math.ceil(height / COARSE);
        const seen = coarse(photo, width, height, columns, rows);
        const calm = 1 - control / JUMP;
        const same = calm > 0 && this._shown && this._width === width && this._shown.length === styled.length;
        const change = same && this._change(seen, columns, rows);
        if (!change || change.reduce((moved, value) => moved + (value > MOVED), 0) > CUT * change.length) {
          this._shown = Float32Array.from(styled);
          this._seen = seen;
          this._width = width;
          return styled;
        }
        const keep = change.map((value) => clip((MOVED - value) / (MOVED - STILL)) * kept(amount) * calm);
        for (let at = 0; at < seen.length; at++) seen[at] += keep[(at / 3) | 0] * (this._seen[at] - seen[at]);
        this._seen = seen;
        return this._blend(styled, keep, width, height, columns, rows);
      }

      _change(seen, columns, rows) {
        const change = new Float32Array(columns * rows);
        for (let at = 0; at < seen.length; at++) {
          const place = (at / 3) | 0;
          change[place] = Math.max(change[place], Math.abs(seen[at] - this._seen[at]));
        }
        return around(change, columns, rows, 1, AROUND, Math.max);
      }

      /** `keep` lies between the pixels: it is read bilinearly. */
      _blend(styled, keep, width, height, columns, rows) {
        const result = new Uint8ClampedArray(styled.length);
        const shown = this._shown;
        const line = new Float32Array(columns);
        for (let y = 0, at = 0; y < height; y++) {
          const down = between(y, rows);
          const [top, bottom] = [Math.floor(down) * columns, Math.ceil(down) * columns];
          for (let x = 0; x < columns; x++) line[x] = mixed(keep[top + x], keep[bottom + x], down % 1);
          for (let x = 0; x < width; x++) {
            const across = between(x, columns);
            const old = mixed(line[Math.floor(across)], line[Math.ceil(across)], across % 1);
            for (const end = at + 3; at < end; at++) {
              result[at] = shown[at] = mixed(styled[at], shown[at], old);
            }
          }
        }
        return result;
      }
    }

    const clip = (value) => Math.min(Math.max(value, 0), 1);

    const mixed = (a, b, share) => a + share * (b - a);

    /** Where a fine place lies among `count` coarse ones. */
    const between = (fine, count) => Math.min(Math.max((fine + 0.5) / COARSE - 0.5, 0), count - 1);

    return { bgrFromRgba, rgbaFromBgr, recolored, Smoother };
  };
})((window.stylesdk ||= {}));
