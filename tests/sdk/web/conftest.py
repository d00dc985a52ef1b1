"""Fixtures of the browser tests. Each module has a Chromium of its own: playwright's event loop bars any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Server, Tab, camera_arguments, chromium, write_mjpeg
from playwright.sync_api import Browser, Playwright, sync_playwright

from stylesdk import Stylizer
from stylesdk.frames import Frame
from stylesdk.live.scene import render_frame

SIZE = (270, 480)


@pytest.fixture(scope="session")
def scene() -> list[Frame]:
    """The demo scene as the fake camera plays it: half a second, (270, 480)."""
    return [render_frame(index, 60, SIZE) for index in range(15)]


@pytest.fixture(scope="session")
def camera_clip(tmp_path_factory: pytest.TempPathFactory, scene: list[Frame]) -> Path:
    return write_mjpeg(tmp_path_factory.mktemp("camera") / "scene.mjpeg", scene)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, camera_clip: Path) -> Iterator[Browser]:
    running = chromium(playwright, *camera_arguments(camera_clip))
    yield running
    running.close()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens an address in a window of its own; after the test, nothing may have gone wrong in it."""
    tabs: list[Tab] = []

    def opened(url: str, **options: object) -> Tab:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        tabs.append(Tab(context.new_page()))
        tabs[-1].page.goto(url)
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.page.context.close()
    assert [line for tab in tabs for line in tab.trouble] == []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the bundled six styles, on onnxruntime with one thread."""
    running = Server(tmp_path_factory.mktemp("server") / "log", "--runtime", "onnxruntime", "--threads", "1")
    try:
        running.start()
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module")
def stylizer() -> Iterator[Stylizer]:
    with Stylizer("six", runtime="onnxruntime", threads=1) as six:
        yield six
