"use strict";
/** The controls of the look, and the divider between before and after. */
(function (stylesdk) {
  const SMOOTHING = 0.5; // what the key switches on before anybody chose how much
  const $ = (id) => document.getElementById(id);
  const percent = (value) => `${Math.round(100 * value)} %`;

  /** Style, strength, smoothing and colour, as the user sets them. */
  class LookControls {
    /**
     * @param {Config} config
     * @param {(look: Look) => void} onchange gets what changed
     */
    constructor(config, onchange) {
      this._styles = config.styles;
      this._onchange = onchange;
      this._smoothing = config.default.smoothing || SMOOTHING;
      this._fillGallery(config.default.style);
      this._slider("strength", config.default.strength ?? 1);
      this._slider("smoothing", config.default.smoothing ?? 0);
      $("keep-color").checked = Boolean(config.default.keep_color);
      $("keep-color").oninput = () => onchange({ keep_color: $("keep-color").checked });
      $("controls").onsubmit = (event) => event.preventDefault();
    }

    /** The chosen style, as in `config.styles`; none where a picture or the model itself says how it looks. */
    get style() {
      return this._styles.find(({ name }) => name === this._chosen) || { name: "stylesdk", title: "" };
    }

    /** @returns {boolean} whether the key is one of ours */
    press(key) {
      const number = /^[1-9]$/.test(key) ? Number(key) : 0;
      if (number && number <= this._styles.length) $("styles").querySelectorAll("input")[number - 1].click();
      else if (key === "c") $("keep-color").click();
      else if (key === "m") this._toggleSmoothing();
      else return false;
      return true;
    }

    _fillGallery(mix) {
      this._chosen = Object.entries(mix || {}).sort((a, b) => b[1] - a[1])[0]?.[0];
      $("gallery").hidden = !this._styles.length;
      $("styles").replaceChildren(...this._styles.map((style, index) => this._tile(style, index)));
    }

    _tile({ name, title, thumbnail }, index) {
      const tile = element("label", { className: "tile" });
      const radio = element("input", { type: "radio", name: "style", value: name, checked: name === this._chosen });
      if (index < 9) radio.setAttribute("aria-keyshortcuts", String(index + 1));
      radio.onchange = () => {
        this._chosen = name;
        this._onchange({ style: { [name]: 1 } });
      };
      const picture = element("img", { src: thumbnail, alt: "", width: 192, height: 108, draggable: false });
      tile.append(radio, picture, element("span", { textContent: title }));
      return tile;
    }

    _slider(name, value) {
      const slider = $(name);
      const show = () => {
        $(`${name}-value`).textContent = percent(slider.value);
        slider.setAttribute("aria-valuetext", percent(slider.value));
        slider.style.setProperty("--filled", `${100 * slider.value}%`);
      };
      slider.value = value;
      slider.oninput = () => {
        show();
        if (name === "smoothing" && slider.valueAsNumber) this._smoothing = slider.valueAsNumber;
        this._onchange({ [name]: slider.valueAsNumber });
      };
      show();
    }

    _toggleSmoothing() {
      $("smoothing").value = $("smoothing").valueAsNumber ? 0 : this._smoothing;
      $("smoothing").dispatchEvent(new Event("input"));
    }
  }

  /** The divider: how much of the picture, from the left, is shown as it was. */
  class Divider {
    /** @param {HTMLElement} handle the ARIA slider @param {HTMLElement} frame what it divides */
    constructor(handle, frame) {
      this._handle = handle;
      this._frame = frame;
      handle.onpointerdown = (event) => {
        handle.setPointerCapture(event.pointerId);
        this._drag(event);
      };
      handle.onpointermove = (event) => handle.hasPointerCapture(event.pointerId) && this._drag(event);
      handle.onkeydown = (event) => this._press(event);
      this.set(0);
    }

    /** @param {number} value 0-100, percent of the width */
    set(value) {
      this._value = Math.min(100, Math.max(0, Math.round(value)));
      this._frame.style.setProperty("--divider", String(this._value));
      this._handle.setAttribute("aria-valuenow", String(this._value));
      this._handle.setAttribute("aria-valuetext", `${this._value} % before`);
    }

    _drag(event) {
      const { left, width } = this._frame.getBoundingClientRect();
      this.set((100 * (event.clientX - left)) / width);
    }

    _press(event) {
      const steps = { ArrowRight: 2, ArrowUp: 2, ArrowLeft: -2, ArrowDown: -2, PageUp: 10, PageDown: -10 };
      const ends = { Home: 0, End: 100 };
      if (event.key in steps) this.set(this._value + steps[event.key]);
      else if (event.key in ends) this.set(ends[event.key]);
      else return;
      event.preventDefault();
    }
  }

  const element = (name, properties) => Object.assign(document.createElement(name), properties);

  stylesdk.LookControls = LookControls;
  stylesdk.Divider = Divider;
})((window.stylesdk ||= {}));
