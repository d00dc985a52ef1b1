"""The page that needs no server on WebGPU, computed by the CPU here, and what it does where WebGPU fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from browser import chromium
from playwright.sync_api import Browser, Page, Playwright
from static_site import CLOSE, furthest, static_site, styled_by

from stylesdk import Stylizer
from stylesdk.live.scene import render_frame

pytestmark = pytest.mark.browser

SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")


@pytest.fixture(scope="module")
def gpu_browser(playwright: Playwright) -> Iterator[Browser]:
    """A Chromium whose WebGPU is computed by the CPU, slowly."""
    browser = chromium(playwright, *SOFTWARE_GPU)
    yield browser
    browser.close()


@pytest.fixture
def gpu_page(gpu_browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page there, with words of the worker's script changed: pairs of old and new."""
    page = gpu_browser.new_page()
    change = """(changes) => {
      let text = String(stylesdk.localWorker);
      for (const [old, changed] of changes) {
        if (!text.includes(old)) throw new Error("nothing to change");
        text = text.replace(old, changed);
      }
      stylesdk.localWorker = { toString: () => text };
    }"""

    def opened(site: Path, query: str, *changes: tuple[str, str]) -> Page:
        page.goto(f"{site.as_uri()}/index.html{query}")
        if not page.evaluate("navigator.gpu ? navigator.gpu.requestAdapter().then((a) => Boolean(a)) : false"):
            # Also where a browser is required: some builds and systems have none, and nothing can be installed.
            pytest.skip("this Chromium has no WebGPU, not even in software")
        page.evaluate(change, changes)
        return page

    yield opened
    page.close()


def test_webgpu_draws_what_onnxruntime_draws_in_python(gpu_page: Callable[..., Page]) -> None:
    page = gpu_page(static_site("six"), "?backend=webgpu")
    photo = cv2.resize(render_frame(30, 100), (83, 45), interpolation=cv2.INTER_AREA)
    with Stylizer("six", runtime="onnxruntime") as python:
        found = styled_by(page, photo, style={"udnie": 1}, keep_color=True)
        assert furthest(found, python.run(photo, style="udnie", keep_color=True)) <= CLOSE
    assert page.evaluate("tried._backend") == "webgpu"


@pytest.fixture(scope="module")
def nano() -> Iterator[Stylizer]:
    with Stylizer("wave.nano", runtime="onnxruntime") as stylizer:
        yield stylizer


HANGS = "new Promise(() => {})"


@pytest.mark.parametrize(
    ("query", "changes"),
    [
        ("", []),  # a GPU in software is no gain
        ("?backend=webgpu", [("const NEAR = 2", "const NEAR = -1")]),  # as if it drew something else
        ("?backend=webgpu", [('await use("webgpu")', 'await use("webgpu2")')]),  # as if it could not be opened
        (
            "?backend=webgpu",  # as if it were opened for ever
            [('await use("webgpu")', f'await answered({HANGS}, "webgpu")'), ("PATIENCE = 20000", "PATIENCE = 100")],
        ),
    ],
    ids=["in software", "another picture", "no GPU", "hangs"],
)
def test_without_a_webgpu_that_is_right_wasm_draws(
    query: str, changes: list[tuple[str, str]], gpu_page: Callable[..., Page], nano: Stylizer
) -> None:
    page = gpu_page(static_site("wave.nano"), query, *changes)
    photo = render_frame(30, 100, (73, 131))
    assert furthest(styled_by(page, photo), nano.run(photo)) <= CLOSE
    assert page.evaluate("tried._backend") == "wasm"


@pytest.mark.parametrize(
    "trouble", ["throw new Error('device lost')", f"PATIENCE = 100; running = {HANGS}"], ids=["fails", "hangs"]
)
def test_a_webgpu_that_fails_later_is_done_without(trouble: str, gpu_page: Callable[..., Page], nano: Stylizer) -> None:
    run = "running = session.run(feeds);"
    changes = [("const PATIENCE", "let PATIENCE")]
    changes.append((run, f"if (height === 80 && backend === 'webgpu') {{ {trouble}; }} else {run}"))
    page = gpu_page(static_site("wave.nano"), "?backend=webgpu", *changes)
    for size, backend in (((49, 83), "webgpu"), ((80, 131), "wasm"), ((49, 83), "wasm")):
        photo = cv2.resize(render_frame(30, 100), size[::-1], interpolation=cv2.INTER_AREA)
        assert furthest(styled_by(page, photo), nano.run(photo)) <= CLOSE
        assert page.evaluate("tried._backend") == backend
