"""The page when things go wrong: it says what to do, and goes on by itself where it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from browser import AWAY, PATIENCE, Server, Tab, chromium, forgive
from playwright.sync_api import Playwright
from websockets.sync.client import connect

from tiny_models import coded_onnx, picture_onnx, write_with_companions

pytestmark = pytest.mark.browser

OpenTab = Callable[..., Tab]
TOKEN = "not-a-secret-1"
# What is told from now on, also where the next word comes at once.
TOLD = """() => {
    window.told = [];
    const note = () => told.push(`${document.body.dataset.state}: ${document.getElementById("state").textContent}`);
    const watch = new MutationObserver(note);
    watch.observe(document.getElementById("state"), { childList: true });
}"""
OPENED = """() => {
    const { mediaDevices } = navigator, open = mediaDevices.getUserMedia.bind(mediaDevices);
    window.streams = [];
    mediaDevices.getUserMedia = (wanted) => open(wanted).then((stream) => (window.streams.push(stream), stream));
}"""
LIVE = "window.streams.filter((s) => s.getTracks()[0].readyState === 'live').length"


@pytest.fixture
def tab(open_tab: OpenTab, server: Server) -> Tab:
    return open_tab(server.url + "?transport=websocket")


def test_survives_a_server_restart(tab: Tab, server: Server) -> None:
    tab.start()
    tab.page.evaluate(TOLD)
    with server.away():
        tab.until(lambda: tab.state == "lost")
        assert "does not answer" in tab.message
        assert tab.canvas().std() > 20  # what it last drew
        tried = tab.requests.count(server.url + "config.js")
        tab.until(lambda: tab.requests.count(server.url + "config.js") > tried + 2)
    tab.live()
    assert tab.page.evaluate("told") == ["lost: The server does not answer. Trying again …", "live: "]
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
    tab.page.evaluate(OPENED)
    tab.page.evaluate("for (let i = 0; i < 5; i++) document.getElementById('start').click()")
    tab.live()
    tab.until(lambda: tab.page.evaluate("window.streams.length") == 3 and tab.page.evaluate(LIVE) == 1)
    tab.page.click("#start")
    assert tab.page.evaluate(LIVE) == 0
    assert tab.state == "idle"


def test_the_list_of_cameras_switches_none_on(tab: Tab) -> None:
    tab.page.evaluate(OPENED)
    tab.page.evaluate("window.listed = document.querySelector('#source option')")
    tab.page.dispatch_event("#source", "change")
    tab.page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    tab.page.wait_for_timeout(500)
    assert tab.state == "idle"
    assert tab.page.evaluate("streams.length") == 0
    assert tab.page.evaluate("listed.isConnected")  # the list, which may be open, is the same
    tab.start()
    tab.page.dispatch_event("#source", "change")
    tab.until(lambda: tab.page.evaluate("streams.length") == 2)
    tab.live()


def test_a_video_that_the_browser_pauses_goes_on(tab: Tab) -> None:
    tab.start()
    tab.page.evaluate("document.getElementById('before').pause()")
    tab.until(lambda: not tab.page.evaluate("document.getElementById('before').paused"))
    sent = max(tab.sent)
    tab.until(lambda: max(tab.sent, default=0) > sent + 3)


def test_blocked_storage_is_done_without(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab("about:blank")
    blocked = "{ get() { throw new DOMException('blocked', 'SecurityError'); } }"
    for storage in ("localStorage", "sessionStorage"):
        tab.page.add_init_script(f"Object.defineProperty(window, '{storage}', {blocked})")
    tab.page.add_init_script(
        "RTCPeerConnection = function () { throw new Error('not here'); }; delete AbortSignal.timeout"
    )
    tab.page.goto(server.url)
    tab.start()
    tab.until(lambda: tab.page.inner_text("#transport") == "WebSocket")


def test_tab_that_slept_goes_on_when_it_wakes(tab: Tab) -> None:
    """Its processes are stopped, as those of a laptop that is shut: headless Chromium freezes no tab by itself."""
    tab.start()
    below = psutil.Process().children(recursive=True)
    lines = {process: " ".join(process.cmdline()) for process in below}
    zygotes = {process.pid for process, line in lines.items() if "--type=zygote" in line}
    # Known by what they are not: a renderer writes its own command line anew, and now and then there is none to read.
    others = ("--type=utility", "--type=gpu-process")
    renderers = [p for p, line in lines.items() if p.ppid() in zygotes and not any(word in line for word in others)]
    assert renderers, lines
    for process in renderers:
        process.suspend()
    try:
        sent = -1
        while sent != max(tab.sent, default=0):  # what was under way is told, late where the machine is busy
            sent = max(tab.sent, default=0)
            tab.page.wait_for_timeout(1000)
        tab.page.wait_for_timeout(1000)
        assert max(tab.sent, default=0) == sent  # else it does not sleep
    finally:
        for process in renderers:
            process.resume()
    tab.until(lambda: max(tab.received, default=0) > sent + 3)


def test_all_places_taken(tab: Tab, server: Server) -> None:
    with ExitStack() as places:
        for _ in range(4):
            places.enter_context(connect(f"ws://localhost:{server.port}/ws", proxy=None))
        tab.page.click("#start")
        tab.until(lambda: "places are taken" in tab.message)
        assert tab.state == "lost"
        assert tab.page.inner_text("#start") == "Stop"  # it goes on trying
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
    try:
        yield running
    finally:
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
    assert tab.page.inner_text("#start") == "Start"
    assert not tab.page.evaluate("document.getElementById('before').srcObject")  # the camera is off
    forgive(tab, *AWAY, "401")


def test_server_with_other_styles(open_tab: OpenTab, guarded: Server) -> None:
    guarded.start()
    tab = open_tab(guarded.url + "?transport=websocket")
    tab.start()
    guarded.kill()
    guarded.start("-s", "udnie")
    tab.until(lambda: tab.message == "The server was started with other styles. Reload this page.")
    forgive(tab, *AWAY)


def test_a_style_without_a_name_has_no_tile(open_tab: OpenTab, tmp_path: Path) -> None:
    """So that each tile can be chosen: a click on one that is checked already changes nothing."""
    chooser = picture_onnx("chooser", "paint", ("low", "high"), 0.5)
    model = write_with_companions(tmp_path, coded_onnx(), {"chooser": chooser})
    running = Server(tmp_path / "log", "-s", f"{model}:auto", "--runtime", "onnxruntime", "--threads", "1")
    try:
        running.start()
        tab = open_tab(running.url + "?transport=websocket")
        assert tab.page.locator("input[name=style]:checked").count() == 0
        tab.start()
        tab.page.check("input[value=low]", force=True)
        tab.until(lambda: tab.pair()[1].std() < 2 and abs(tab.pair()[1].mean() - 40) < 3)
    finally:
        running.kill()
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
