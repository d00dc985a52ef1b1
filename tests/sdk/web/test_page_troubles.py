"""The page when things go wrong: it says what to do, and goes on by itself where it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import AWAY, PATIENCE, Server, Tab, chromium, forgive
from playwright.sync_api import Playwright
from websockets.sync.client import connect

pytestmark = pytest.mark.browser

OpenTab = Callable[..., Tab]
TOKEN = "not-a-secret-1"


@pytest.fixture
def tab(open_tab: OpenTab, server: Server) -> Tab:
    return open_tab(server.url + "?transport=websocket")


def test_survives_a_server_restart(tab: Tab, server: Server) -> None:
    tab.start()
    server.kill()
    tab.until(lambda: tab.state == "lost")
    assert "does not answer" in tab.message
    assert tab.canvas().std() > 20  # what it last drew
    server.start()
    tab.live()
    tab.until(lambda: len(tab.received) > 3)
    assert tab.message == ""
    forgive(tab, *AWAY)


def test_stop_and_start_again(tab: Tab) -> None:
    tab.start()
    tab.page.click("#start")
    assert tab.state == "idle"
    assert not tab.page.evaluate("document.getElementById('before').srcObject")  # the camera's light goes out
    assert tab.canvas().std() > 20
    tab.start()
    tab.until(lambda: len(tab.received) > 3)


def test_impatient_user_gets_what_was_pressed_last(tab: Tab) -> None:
    """The camera of the first Start opens after the Stop that followed: it is closed again."""
    tab.page.evaluate(
        """() => {
            const { mediaDevices } = navigator, open = mediaDevices.getUserMedia.bind(mediaDevices);
            window.streams = [];
            mediaDevices.getUserMedia = (wanted) =>
                open(wanted).then((stream) => (window.streams.push(stream), stream));
        }"""
    )
    tab.page.evaluate("for (let i = 0; i < 5; i++) document.getElementById('start').click()")
    tab.live()
    live = "window.streams.filter((s) => s.getTracks()[0].readyState === 'live').length"
    tab.until(lambda: tab.page.evaluate("window.streams.length") == 3 and tab.page.evaluate(live) == 1)
    tab.page.click("#start")
    assert tab.page.evaluate(live) == 0
    assert tab.state == "idle"


def test_frozen_tab_goes_on_when_it_wakes(tab: Tab) -> None:
    tab.start()
    devtools = tab.page.context.new_cdp_session(tab.page)
    devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    tab.page.wait_for_timeout(1500)
    devtools.send("Page.setWebLifecycleState", {"state": "active"})
    newest = max(tab.received)
    tab.until(lambda: max(tab.received) > newest + 3)


def test_all_places_taken(tab: Tab, server: Server) -> None:
    with ExitStack() as places:
        for _ in range(4):
            places.enter_context(connect(f"ws://localhost:{server.port}/ws", proxy=None))
        tab.page.click("#start")
        tab.until(lambda: "places are taken" in tab.message)
        assert tab.state == "refused"
    tab.live()


def test_file_that_is_no_picture(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(b"no video" * 100)
    tab.page.set_input_files("#file", path)
    tab.until(lambda: tab.state == "refused")
    assert tab.message.startswith("The browser cannot show notes.mp4. Open a video (MP4")
    assert tab.page.inner_text("#start") == "Start"
    forgive(tab, "blob:")


def test_unplugged_camera(tab: Tab) -> None:
    tab.start()
    tab.page.evaluate(
        "document.getElementById('before').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
    )
    tab.until(lambda: tab.message == "The camera is gone. Plug it in, then press Start.")
    tab.start()


def test_no_camera(playwright: Playwright, server: Server) -> None:
    running = chromium(playwright, "--use-fake-ui-for-media-stream")
    with running:
        tab = Tab(running.new_page())
        tab.page.goto(server.url)
        tab.page.click("#start")
        tab.until(lambda: tab.message.startswith("There is no camera. Plug one in, then press Start."))
        assert tab.page.inner_text("#start") == "Start"
        assert tab.trouble == []


def test_denied_camera(playwright: Playwright, server: Server) -> None:
    denied = "--use-fake-ui-for-media-stream=deny"
    running = chromium(playwright, "--use-fake-device-for-media-stream", denied)
    with running:
        tab = Tab(running.new_page())
        tab.page.goto(server.url)
        tab.page.click("#start")
        tab.until(lambda: tab.message.startswith("The camera is blocked. Allow it beside the address"))
        assert tab.trouble == []


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "log", "-s", "wave", "--runtime", "onnxruntime", "--threads", "1")
    yield running
    running.kill()


def test_server_that_wants_another_token(open_tab: OpenTab, guarded: Server) -> None:
    guarded.start("--token", TOKEN)
    tab = open_tab(f"{guarded.url}?token={TOKEN}")
    tab.page.evaluate("sessionStorage.setItem('stylesdk.transport', 'websocket')")
    assert tab.page.url == guarded.url  # the token is out of sight
    tab.start()
    assert tab.page.locator(".tile").count() == 1
    guarded.kill()
    guarded.start("--token", TOKEN + "-another")
    tab.until(lambda: "server wants its token" in tab.message)
    assert tab.state == "refused"
    forgive(tab, *AWAY, "401")


def test_server_with_other_styles(open_tab: OpenTab, guarded: Server) -> None:
    guarded.start()
    tab = open_tab(guarded.url + "?transport=websocket")
    tab.start()
    guarded.kill()
    guarded.start("-s", "udnie")
    tab.until(lambda: tab.message == "The server was started with other styles. Reload this page.")
    forgive(tab, *AWAY)


def test_insecure_page_says_how_to_open_it(playwright: Playwright, guarded: Server) -> None:
    """An address that is not this machine's name gets no camera from the browser."""
    guarded.start("--host", "0.0.0.0", "--token", TOKEN)
    running = chromium(playwright, "--host-resolver-rules=MAP 192.0.2.1 127.0.0.1")
    with running:
        tab = Tab(running.new_page())
        tab.page.goto(f"http://192.0.2.1:{guarded.port}/?token={TOKEN}")
        tab.page.click("#start")
        tab.until(lambda: "secure pages only" in tab.message, PATIENCE)
        assert "localhost, an SSH tunnel" in tab.message
