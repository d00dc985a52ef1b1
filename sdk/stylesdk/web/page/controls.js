"use strict";
/** The controls of the look, and the divider between before and after. */
(function (stylesdk) {
  const SMOOTHING = 0.5; // what the key switches on before anybody chose how much
  const HALF = 0.5; // of the second style, before anybody chose how much
  const $ = (id) => document.getElementById(id);
  const percent = (value) => `${Math.round(100 * value)} %`;

  /** Style, blend, strength, smoothing and colour, as the user sets them. */
  class LookControls {
    /**
     * @param {Config} config
     * @param {(look: Look) => void} onchange gets what changed
     */
    constructor(config, onchange) {
      this._styles = config.styles;
      this._onchange = onchange;
      this._smoothing = config.default.smoothing || SMOOTHING;
      const [first, second] = Object.entries(config.default.style || {}).sort((a, b) => b[1] - a[1]);
      this._chosen = first?.[0];
      this._fillGallery();
      this._offerBlend(second?.[0]);
      $("second").onchange = () => this._blend();
      this._slider("blend", second ? second[1] / (first[1] + second[1]) : HALF, () => this._blend());
      this._slider("strength", config.default.strength ?? 1, (strength) => onchange({ strength }));
      this._slider("smoothing", config.default.smoothing ?? 0, (smoothing) => {
        if (smoothing) this._smoothing = smoothing;
        onchange({ smoothing });
      });
      $("keep-color").checked = Boolean(config.default.keep_color);
      $("keep-color").oninput = () => onchange({ keep_color: $("keep-color").checked });
      $("controls").onsubmit = (event) => event.preventDefault();
    }

    /** What is seen most, as in `config.styles`; none where a picture or the model itself says how it looks. */
    get style() {
      const seen = $("second").value && $("blend").valueAsNumber > HALF ? $("second").value : this._chosen;
      return this._styles.find(({ name }) => name === seen) || { name: "stylesdk", title: "" };
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

    _fillGallery() {
      $("gallery").hidden = !this._styles.length;
      $("styles").replaceChildren(...this._styles.map((style, index) => this._tile(style, index)));
    }

    _tile({ name, title, thumbnail }, index) {
      const tile = element("label", { className: "tile" });
      const radio = element("input", { type: "radio", name: "style", value: name, checked: name === this._chosen });
      if (index < 9) radio.setAttribute("aria-keyshortcuts", String(index + 1));
      radio.onchange = () => {
        this._chosen = name;
        this._offerBlend($("second").value);
        this._blend();
      };
      const picture = element("img", { src: thumbnail, alt: "", width: 192, height: 108, draggable: false });
      tile.append(radio, picture, element("span", { textContent: title }));
      return tile;
    }

    /** Offers the styles that are not chosen; `second` stays where it is one of them. */
    _offerBlend(second) {
      const others = this._styles.filter(({ name }) => name !== this._chosen);
      const options = others.map(({ name, title }) => new Option(title, name, false, name === second));
      $("second").replaceChildren(new Option("None", ""), ...options);
      $("blending").hidden = !this._chosen || !others.length; // a picture has no name to blend by
      this._showBlend();
    }

    _showBlend() {
      $("blend-slider").hidden = !$("second").value;
    }

    _blend() {
      this._showBlend();
      const second = $("second").value;
      const share = $("blend").valueAsNumber;
      this._onchange({ style: second ? { [this._chosen]: 1 - share, [second]: share } : { [this._chosen]: 1 } });
    }

    _slider(name, value, onchange) {
      const slider = $(name);
      const show = () => {
        $(`${name}-value`).textContent = percent(slider.value);
        slider.setAttribute("aria-valuetext", percent(slider.value));
        slider.style.setProperty("--filled", `${100 * slider.value}%`);
      };
      slider.value = value;
      slider.oninput = () => {
        show();
        onchange(slider.valueAsNumber);
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
