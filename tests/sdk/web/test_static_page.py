"""The page that needs no server, in Chromium: the same pixels as onnxruntime in Python, from a web host and from disk.

onnxruntime-web is not part of stylesdk: STYLESDK_ORT_WEB names its npm package, a folder or .tgz.
"""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import Tab, chromium, write_mjpeg
from playwright.sync_api import Browser, Error, Page, Playwright

from stylesdk import Stylizer
from stylesdk.frames import Frame, recolored
from stylesdk.live.scene import render_frame
from stylesdk.live.smoothing import Smoother
from stylesdk.web.static import write_static_page

pytestmark = pytest.mark.browser

PATIENCE = 120.0  # seconds: a busy machine loads 14 MB of WASM for a while
CLOSE = 2  # of 255: what another order of the same sums may change
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")


@pytest.fixture(scope="module")
def package() -> str:
    package = os.environ.get("STYLESDK_ORT_WEB")
    if not package:
        reason = "needs onnxruntime-web: STYLESDK_ORT_WEB=its npm package, from .ci/browser_tools or `npm pack`"
        if os.environ.get("STYLESDK_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return package


@pytest.fixture(scope="module")
def site(package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_static_page(tmp_path_factory.mktemp("static") / "site", "six", onnxruntime_web=package).parent


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


BYTES = """
  const bytes = (text) => Uint8ClampedArray.from(atob(text), (letter) => letter.charCodeAt(0));
  const text = (bytes) => btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
"""
RUN = f"""async ([pixels, width, height, look]) => {{
  {BYTES}
  window.tried ||= new stylesdk.LocalEngine(window.STYLESDK);
  tried.setLook(look);
  return text((await tried.run(new ImageData(bytes(pixels), width, height))).data);
}}"""


def as_text(image: np.ndarray) -> str:
    return base64.b64encode(image.tobytes()).decode()


def from_text(text: str, like: np.ndarray) -> Frame:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(like.shape)


def styled_by(page: Page, frame: Frame, **look: Any) -> Frame:
    """What the browser makes of ``frame``."""
    rgba = cv2.cvtColor(frame, cv2.COLOR_BGR2RGBA)
    found = from_text(page.evaluate(RUN, [as_text(rgba), *frame.shape[1::-1], look]), rgba)
    assert found[..., 3].min() == 255
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_RGBA2BGR), dtype=np.uint8)


def furthest(a: Frame, b: Frame) -> int:
    assert a.shape == b.shape
    return int(cv2.absdiff(a, b).max())


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
    tab.page.click("#start")  # stop
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


def test_colours_are_kept_exactly_as_in_python(open_tab: Callable[..., Tab], site: Path) -> None:
    tab = open_tab(f"{site.as_uri()}/index.html")
    rng = np.random.default_rng(3)
    styled, photo = rng.integers(0, 256, (2, 60, 70, 3), dtype=np.uint8)
    run = f"(images) => {{ {BYTES} return text(stylesdk.pixels().recolored(...images.map(bytes))); }}"
    found = tab.page.evaluate(run, [as_text(styled), as_text(photo)])
    assert np.array_equal(from_text(found, photo), recolored(styled, photo))


def test_still_parts_are_steadied_as_in_python(open_tab: Callable[..., Tab], site: Path) -> None:
    """A still scene with noise and a square that moves; then a cut; then another size."""
    tab = open_tab(f"{site.as_uri()}/index.html")
    rng = np.random.default_rng(4)
    clip: list[tuple[Frame, Frame]] = []
    for index in range(8):
        photo = render_frame(0 if index < 6 else 50, 100, (96, 128) if index < 7 else (72, 128)).astype(np.int16)
        if index == 6:
            photo = photo[:, ::-1] // 2
        photo = photo + rng.normal(0, 2, photo.shape)
        photo[20:50, 8 * index : 8 * index + 30] = (20, 200, 90)
        image = np.clip(photo, 0, 255).astype(np.uint8)
        clip.append((image, cv2.add(cv2.bitwise_not(image), rng.integers(0, 12, image.shape, dtype=np.uint8))))
    run = """const smoother = new (stylesdk.pixels().Smoother)();
      return clip.map(([photo, styled, width, height]) =>
        text(smoother.smooth(bytes(photo), bytes(styled), width, height, 0.6)));"""
    sent = [[as_text(photo), as_text(styled), *photo.shape[1::-1]] for photo, styled in clip]
    found = tab.page.evaluate(f"(clip) => {{ {BYTES} {run} }}", sent)
    smoother = Smoother()
    for index, ((photo, styled), values) in enumerate(zip(clip, found, strict=True)):
        expected = smoother.smooth(photo, styled, 0.6)
        steady = from_text(values, styled)
        assert (furthest(steady, styled) == 0) == (index in (0, 6, 7))  # begins anew: no ghost of another scene
        # The map of changes is rounded to whole levels in Python only.
        assert cv2.absdiff(steady, expected).mean() < 0.3
        assert furthest(steady, expected) <= 4


@pytest.fixture(scope="module")
def gpu_browser(playwright: Playwright) -> Iterator[Browser]:
    """A Chromium whose WebGPU is computed by the CPU, slowly."""
    browser = chromium(playwright, *SOFTWARE_GPU)
    yield browser
    browser.close()


@pytest.fixture
def gpu_page(gpu_browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page there, with a word of the worker's script changed."""
    page = gpu_browser.new_page()
    change = """([old, changed]) => {
      const text = String(stylesdk.localWorker);
      if (!text.includes(old)) throw new Error("nothing to change");
      stylesdk.localWorker = { toString: () => text.replace(old, changed) };
    }"""

    def opened(site: Path, query: str, old: str = "", new: str = "") -> Page:
        page.goto(f"{site.as_uri()}/index.html{query}")
        if not page.evaluate("navigator.gpu ? navigator.gpu.requestAdapter().then((a) => Boolean(a)) : false"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        page.evaluate(change, [old, new])
        return page

    yield opened
    page.close()


def test_webgpu_draws_what_onnxruntime_draws_in_python(
    gpu_page: Callable[..., Page], site: Path, python: Stylizer
) -> None:
    page = gpu_page(site, "?backend=webgpu")
    photo = cv2.resize(render_frame(30, 100), (83, 45), interpolation=cv2.INTER_AREA)
    for style, keep_color in (("wave", False), ("udnie", True)):
        found = styled_by(page, photo, style={style: 1}, keep_color=keep_color)
        assert furthest(found, python.run(photo, style=style, keep_color=keep_color)) <= CLOSE
    assert page.evaluate("tried._backend") == "webgpu"


@pytest.fixture(scope="module")
def nano_site(package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_static_page(tmp_path_factory.mktemp("nano") / "site", "wave.nano", onnxruntime_web=package).parent


@pytest.fixture(scope="module")
def nano() -> Iterator[Stylizer]:
    with Stylizer("wave.nano", runtime="onnxruntime") as stylizer:
        yield stylizer


@pytest.mark.parametrize(
    ("query", "old", "new"),
    [
        ("", "", ""),  # a GPU in software is no gain
        ("?backend=webgpu", "const NEAR = 2", "const NEAR = -1"),  # as if it drew something else
        ("?backend=webgpu", 'await use("webgpu")', 'await use("webgpu2")'),  # as if it could not be opened
    ],
)
def test_without_a_webgpu_that_is_right_wasm_draws(
    query: str, old: str, new: str, gpu_page: Callable[..., Page], nano_site: Path, nano: Stylizer
) -> None:
    page = gpu_page(nano_site, query, old, new)
    photo = render_frame(30, 100, (73, 131))
    assert furthest(styled_by(page, photo), nano.run(photo)) <= CLOSE
    assert page.evaluate("tried._backend") == "wasm"


def test_a_webgpu_that_fails_later_is_done_without(
    gpu_page: Callable[..., Page], nano_site: Path, nano: Stylizer
) -> None:
    run = "const { styled } = await session.run(feeds);"
    lost = f"if (height === 80 && backend === 'webgpu') throw new Error('device lost'); {run}"
    page = gpu_page(nano_site, "?backend=webgpu", run, lost)
    for size, backend in (((49, 83), "webgpu"), ((80, 131), "wasm"), ((49, 83), "wasm")):
        photo = cv2.resize(render_frame(30, 100), size[::-1], interpolation=cv2.INTER_AREA)
        assert furthest(styled_by(page, photo), nano.run(photo)) <= CLOSE
        assert page.evaluate("tried._backend") == backend
