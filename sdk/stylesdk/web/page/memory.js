"use strict";
(function (stylesdk) {
  /** One text that the browser keeps for this page. Where it keeps nothing, the page knows it until it is closed. */
  class Remembered {
    /** @param {"localStorage"|"sessionStorage"} storage @param {string} key */
    constructor(storage, key) {
      this._storage = storage;
      this._key = key;
      this._value = null;
    }

    /** @returns {string|null} */
    get value() {
      try {
        return window[this._storage].getItem(this._key) ?? this._value;
      } catch {
        return this._value; // storage is blocked
      }
    }

    set value(text) {
      this._value = text;
      try {
        window[this._storage].setItem(this._key, text);
      } catch {
        // blocked, or full
      }
    }
  }

  stylesdk.Remembered = Remembered;
})((window.stylesdk ||= {}));
