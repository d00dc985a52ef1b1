"""The page that needs no server, in Chromium, from a host and from disk: the pixels of onnxruntime in Python."""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import Tab, write_mjpeg
from playwright.sync_api import Browser, Error
from static_site import BYTES, CLOSE, PATIENCE, as_text, from_text, furthest, static_site, styled_by

from stylesdk import Stylizer
from stylesdk.frames import Frame
from stylesdk.live.scene import render_frame
from stylesdk.live.sources import SourceFrame
from stylesdk.live.styling import Look, Styling
from tiny_models import coded_onnx

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site() -> Path:
    return static_site("six")


@pytest.fixture(scope="module")
def camera_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera before which nothing moves: whenever it is looked at, the picture is the same."""
    still = render_frame(40, 100, (288, 512))
    return write_mjpeg(tmp_path_factory.mktemp("camera") / "still.mjpeg", [still] * 3)


@pytest.fixture(scope="module")
def python() -> Iterator[Stylizer]:
    with Stylizer("six", runtime="onnxruntime") as stylizer:
        yield stylizer


class _Host(SimpleHTTPRequestHandler):
    isolated = False

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *args: object) -> None:
        pass


class _IsolatingHost(_Host):
    isolated = True


HOSTS = ("disk", "host", "isolating host")


@pytest.fixture(params=HOSTS)
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """The page's folder as an address."""
    if request.param == "disk":
        yield site.as_uri()
        return
    handler = _Host if request.param == "host" else _IsolatingHost
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pixels_are_those_of_onnxruntime_in_python(
    request: pytest.FixtureRequest, open_tab: Callable[..., Tab], address: str, python: Stylizer
) -> None:
    tab = open_tab(f"{address}/index.html?backend=wasm")
    photo = render_frame(30, 100, (121, 163))  # no multiples of the model's stride
    before = photo.copy()
    for style in ({"starry_night": 1.0}, {"wave": 0.5, "udnie": 1.5}):
        for strength, keep_color in ((1.0, False), (0.6, True)):
            found = styled_by(tab.page, photo, style=style, strength=strength, keep_color=keep_color)
            expected = python.run(photo, strength, style, keep_color=keep_color)
            assert furthest(expected, photo) > 20
            assert furthest(found, expected) <= CLOSE
    assert np.array_equal(photo, before)
    assert tab.page.evaluate("tried._backend") == "wasm"
    # Only there may a page have threads.
    assert tab.page.evaluate("crossOriginIsolated") == ("isolating" in request.node.callspec.id)
    outside = [url for url in tab.requests if not url.startswith((address, "blob:", "data:"))]
    assert outside == []


def test_styles_that_are_codes_mix_as_in_python(open_tab: Callable[..., Tab], tmp_path: Path) -> None:
    model = tmp_path / "coded.onnx"
    model.write_bytes(coded_onnx())  # grey of the sum of a code's numbers: 40 and 120
    tab = open_tab(f"{static_site(str(model)).as_uri()}/index.html?backend=wasm")
    photo = render_frame(10, 100, (40, 64))
    for style, level in (({"low": 1.0}, 40), ({"high": 2.0}, 120), ({"low": 1.0, "high": 3.0}, 100)):
        found = styled_by(tab.page, photo, style=style, strength=1, keep_color=False)
        assert (found == level).all(), style


LIVE = f"""async ([clip, width, height]) => {{
  {BYTES}
  const engine = new stylesdk.LocalEngine(window.STYLESDK);
  await engine._open();
  const found = [];
  for (const [pixels, look] of clip) {{
    engine.setLook(look);
    found.push(text((await engine._style({{ data: bytes(pixels), width, height }}, true)).data));
    await new Promise((go) => setTimeout(go, 20));
  }}
  return found;
}}"""


def test_what_stands_still_is_steadied_under_moving_controls_as_in_python(
    open_tab: Callable[..., Tab], site: Path, python: Stylizer
) -> None:
    tab = open_tab(f"{site.as_uri()}/index.html?backend=wasm")
    random = np.random.default_rng(1)
    still = render_frame(10, 100, (72, 128)).astype(np.int16)
    # Strength, keep_color and the weight of a second style: they creep, jump, stand still, creep, switch over.
    controls = [(1 - index / 50, False, 0.0) for index in range(5)] + [(0.4, False, 0.0)] * 3
    controls += [(0.4, False, index / 100) for index in range(1, 4)] + [(0.4, True, 0.03)] * 2
    look, clip, expected = Look(smoothing=0.5), [], []
    styling = Styling(python, look)
    for pts, (strength, keep_color, share) in enumerate(controls):
        photo = np.clip(still + random.normal(0, 4, still.shape), 0, 255).astype(np.uint8)
        look.strength, look.keep_color, look.style = strength, keep_color, {"wave": 1 - share, "udnie": share}
        values = {"strength": strength, "keep_color": keep_color, "smoothing": 0.5, "style": look.style}
        clip.append([as_text(cv2.cvtColor(photo, cv2.COLOR_BGR2RGBA)), values])
        expected.append(styling.run(SourceFrame(photo, "", pts, Fraction(1, 20))))
    found = tab.page.evaluate(LIVE, [clip, 128, 72])
    for index, (text, image) in enumerate(zip(found, expected, strict=True)):
        rgba = from_text(text, np.empty((72, 128, 4)))
        assert cv2.absdiff(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR), image).mean() < 0.05, controls[index]


def test_another_size_and_another_look_take_effect_at_once(
    open_tab: Callable[..., Tab], site: Path, python: Stylizer
) -> None:
    tab = open_tab(f"{site.as_uri()}/index.html?backend=wasm")
    for size, style in (((72, 128), "wave"), ((128, 72), "shipwreck"), ((72, 128), "wave")):
        photo = cv2.resize(render_frame(10, 100), size[::-1], interpolation=cv2.INTER_AREA)
        found = styled_by(tab.page, photo, style={style: 1.0}, strength=1, keep_color=False)
        assert furthest(found, python.run(photo, style=style)) <= CLOSE
    photo = render_frame(10, 100, (72, 128))
    assert furthest(styled_by(tab.page, photo, strength=0), python.run(photo, 0)) <= CLOSE


def test_a_style_that_the_model_does_not_have_is_refused(open_tab: Callable[..., Tab], site: Path) -> None:
    tab = open_tab(f"{site.as_uri()}/index.html")
    set_look = """(style) => {
      try { new stylesdk.LocalEngine(window.STYLESDK).setLook({ style }); } catch (error) { return error.message; }
    }"""
    for style in ({"nobody": 1}, {"wave": 0}, {"wave": -1}, {}):
        assert "expected: weights above 0 of starry_night, " in (tab.page.evaluate(set_look, style) or "")


CANVASES = """() => {
  const after = document.getElementById("after");
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [after.width, after.height];
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(document.getElementById("before"), 0, 0, after.width, after.height);
  return sheet.toDataURL("image/png").split(",")[1];
}"""


def photo_shown(tab: Tab) -> Frame:
    """What the camera shows, in the size that the engine styles."""
    data = base64.b64decode(tab.page.evaluate(CANVASES))
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)


@pytest.mark.parametrize("address", HOSTS[:2], indirect=True)
def test_the_whole_page_styles_the_camera(open_tab: Callable[..., Tab], address: str, python: Stylizer) -> None:
    tab = open_tab(f"{address}/index.html?backend=wasm")
    tab.start()
    tab.until(lambda: tab.page.is_visible("#figures") and tab.page.inner_text("#fps") not in ("", "–"), PATIENCE)
    assert tab.page.inner_text("#backend") == "onnxruntime-web 1.30.0 (wasm)"
    assert tab.page.inner_text("#transport").startswith("this browser, ")

    def shows(style: str, **look: Any) -> bool:
        expected = python.run(photo_shown(tab), style=style, **look)
        found = tab.canvas()
        return found.shape == expected.shape and furthest(found, expected) <= CLOSE

    tab.until(lambda: shows("starry_night"), PATIENCE)
    tab.page.keyboard.press("4")  # wave: it fades in, and then is there in full
    tab.until(lambda: shows("wave"), PATIENCE)
    tab.page.keyboard.press("c")
    tab.until(lambda: shows("wave", keep_color=True), PATIENCE)
    tab.page.keyboard.press("m")  # nothing moves, so nothing changes, but for rounding
    tab.page.wait_for_timeout(500)
    tab.until(lambda: shows("wave", keep_color=True), PATIENCE)
    tab.page.click("#start")
    tab.until(lambda: tab.state == "idle")
    tab.start()  # again, without loading anything
    tab.until(lambda: shows("wave", keep_color=True), PATIENCE)
    assert len([url for url in tab.requests if url.endswith("model.onnx.js")]) == 1
    assert [url for url in tab.requests if not url.startswith((address, "blob:", "data:"))] == []
    screenshots(tab)


def screenshots(tab: Tab) -> None:
    folder = os.environ.get("STYLESDK_SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, width, height in (("phone", 390, 844), ("desktop", 1440, 900)):
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.screenshot(path=Path(folder) / f"static-{name}.png")


SLOW = """() => {
  // The worker as it is, but each frame takes 200 ms longer.
  const own = String(stylesdk.localWorker);
  const slow = own.replace("async function infer(", "async function quickly(").replace(
    "async function surelyInferred(",
    "async function infer(...a) { await new Promise((go) => setTimeout(go, 200)); return quickly(...a); } $&",
  );
  stylesdk.localWorker = { toString: () => slow };
}"""


def test_frames_are_made_smaller_where_the_machine_is_slow(open_tab: Callable[..., Tab], site: Path) -> None:
    tab = open_tab(f"{site.as_uri()}/index.html?backend=wasm")
    tab.page.evaluate(SLOW)
    tab.start()
    tab.until(lambda: tab.canvas().shape == (144, 256, 3), PATIENCE)
    assert "512x288" in tab.message
    assert "smaller" in tab.message
    tab.until(lambda: tab.page.inner_text("#transport").endswith(" 256x144"), PATIENCE)
    assert int(tab.page.inner_text("#dropped")) > 0  # the newest frame wins


def test_a_page_that_is_not_whole_says_what_is_missing(browser: Browser, site: Path, tmp_path: Path) -> None:
    part = shutil.copytree(site, tmp_path / "part")
    (part / "model.onnx.js").unlink()
    context = browser.new_context()
    tab = Tab(context.new_page())
    tab.page.goto(f"{part.as_uri()}/index.html")
    tab.page.click("#start")
    tab.until(lambda: tab.state == "refused")
    assert "model.onnx.js is not beside this page" in tab.message
    shutil.copy(site / "model.onnx.js", part)
    assert tab.page.inner_text("#start") == "Start"
    assert not tab.page.evaluate("document.getElementById('before').srcObject")  # the camera is off
    tab.start()
    context.close()


def test_after_a_failure_it_begins_anew(open_tab: Callable[..., Tab], site: Path, python: Stylizer) -> None:
    tab = open_tab(f"{site.as_uri()}/index.html?backend=wasm")
    tab.page.evaluate("""() => {
      const own = String(stylesdk.localWorker);
      const bad = own.replace("const rgba =", "if (height === 80) throw new Error('out of memory'); $&");
      stylesdk.localWorker = { toString: () => bad };
    }""")
    good, bad = render_frame(10, 100, (72, 128)), render_frame(10, 100, (80, 128))
    for _ in range(2):
        assert furthest(styled_by(tab.page, good, style={"wave": 1}), python.run(good, style="wave")) <= CLOSE
        with pytest.raises(Error, match="out of memory"):
            styled_by(tab.page, bad)
