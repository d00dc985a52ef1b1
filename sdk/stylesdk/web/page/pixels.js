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
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const to = ((y / COARSE | 0) * columns + (x / COARSE | 0)) * 3;
          for (let c = 0; c < 3; c++) sums[to + c] += photo[(y * width + x) * 3 + c];
        }
      }
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          const area = Math.min(COARSE, width - x * COARSE) * Math.min(COARSE, height - y * COARSE);
          for (let c = 0; c < 3; c++) sums[(y * columns + x) * 3 + c] /= area;
        }
      }
      return blurred(sums, columns, rows);
    }

    function blurred(image, columns, rows) {
      const result = new Float32Array(image.length);
      each(columns, rows, 1, (at, near) => {
        for (let c = 0; c < 3; c++) result[at * 3 + c] += image[near * 3 + c] / 9;
      });
      return result;
    }

    /** Calls `visit(place, neighbour)` for all places; beyond the edge the edge is repeated. */
    function each(columns, rows, reach, visit) {
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) {
          for (let v = y - reach; v <= y + reach; v++) {
            const row = Math.min(Math.max(v, 0), rows - 1) * columns;
            for (let u = x - reach; u <= x + reach; u++) {
              visit(y * columns + x, row + Math.min(Math.max(u, 0), columns - 1));
            }
          }
        }
      }
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

      /** The next frame, steadied by `amount`, 0-1. After another size or a cut it is `styled`. */
      smooth(photo, styled, width, height, amount) {
        if (!amount) {
          this.reset();
          return styled;
        }
        const columns = Math.ceil(width / COARSE);
        const rows = Math.ceil(height / COARSE);
        const seen = coarse(photo, width, height, columns, rows);
        const same = this._shown && this._width === width && this._shown.length === styled.length;
        const change = same && this._change(seen, columns, rows);
        if (!change || change.reduce((moved, value) => moved + (value > MOVED), 0) > CUT * change.length) {
          this._shown = Float32Array.from(styled);
          this._seen = seen;
          this._width = width;
          return styled;
        }
        const keep = change.map((value) => clip((MOVED - value) / (MOVED - STILL)) * kept(amount));
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
        const widened = new Float32Array(change.length);
        each(columns, rows, AROUND, (at, near) => {
          if (change[near] > widened[at]) widened[at] = change[near];
        });
        return widened;
      }

      /** `keep` lies between the pixels: it is read bilinearly. */
      _blend(styled, keep, width, height, columns, rows) {
        const result = new Uint8ClampedArray(styled.length);
        const across = Array.from({ length: width }, (_, x) => between(x, columns));
        for (let y = 0, at = 0; y < height; y++) {
          const [top, bottom, down] = between(y, rows);
          for (let x = 0; x < width; x++) {
            const [left, right, along] = across[x];
            const upper = keep[top * columns + left] * (1 - along) + keep[top * columns + right] * along;
            const lower = keep[bottom * columns + left] * (1 - along) + keep[bottom * columns + right] * along;
            const old = upper * (1 - down) + lower * down;
            for (const end = at + 3; at < end; at++) {
              result[at] = this._shown[at] = styled[at] + old * (this._shown[at] - styled[at]);
            }
          }
        }
        return result;
      }
    }

    const clip = (value) => Math.min(Math.max(value, 0), 1);

    /** The two coarse places around a fine one, and how near it is to the second, 0-1. */
    function between(fine, count) {
      const place = Math.min(Math.max((fine + 0.5) / COARSE - 0.5, 0), count - 1);
      const first = Math.floor(place);
      return [first, Math.min(first + 1, count - 1), place - first];
    }

    return { bgrFromRgba, rgbaFromBgr, recolored, Smoother };
  };
})((window.stylesdk ||= {}));
