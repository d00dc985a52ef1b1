"""The page over WebRTC, and over what it takes when there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import AWAY, Server, Tab, forgive, nearest, write_webm
from playwright.sync_api import Route

from stylesdk import Stylizer
from stylesdk.frames import Frame

pytestmark = pytest.mark.browser

# Of 255, mean. VP8 goes over the frames twice, and leaves out the fine grass and brush strokes; another style, or
# the photo, is 30 and more away.
VP8 = 20.0
FLAT = 8.0  # of 255: the mean of a patch of one colour, three times through VP8; another range changes some by 14
CANDIDATE = re.compile(r"a=candidate.*?\\r\\n")  # in the SDP in the JSON
OpenTab = Callable[..., Tab]


@pytest.fixture
def tab(open_tab: OpenTab, server: Server) -> Tab:
    return open_tab(server.url + "?transport=webrtc")


def test_styled_frames_come_over_webrtc(tab: Tab, scene: list[Frame], stylizer: Stylizer) -> None:
    tab.start()
    tab.until(lambda: tab.page.inner_text("#transport") == "WebRTC")
    night, wave = ([stylizer.run(frame, style=style) for frame in scene] for style in ("starry_night", "wave"))
    tab.until(lambda: nearest(tab.canvas(), night) < VP8)
    assert tab.canvas().shape == (270, 480, 3)
    assert nearest(tab.canvas(), wave) > VP8
    assert nearest(tab.canvas(), scene) > VP8
    tab.page.check("input[value=wave]", force=True)
    tab.until(lambda: nearest(tab.canvas(), wave) < VP8)
    assert not tab.sent  # nothing over a WebSocket


def test_video_file_goes_over_webrtc(tab: Tab, scene: list[Frame], stylizer: Stylizer, tmp_path: Path) -> None:
    flipped = [cv2.flip(frame, 1) for frame in scene]
    tab.page.set_input_files("#file", write_webm(tmp_path / "clip.webm", flipped))
    tab.live()
    styled = [stylizer.run(frame) for frame in flipped]
    tab.until(lambda: nearest(tab.canvas(), styled) < VP8)


def test_colours_come_back_as_they_were(tab: Tab, tmp_path: Path) -> None:
    """There and back, with the photo itself for the style: another matrix or range of colours would show."""
    rows = (
        [(200, 60, 60), (60, 200, 60), (60, 60, 200), (30, 30, 30)],
        [(60, 200, 200), (200, 60, 200), (225,) * 3, (128,) * 3],
    )
    patches = np.repeat(np.repeat(np.array(rows, np.uint8), 136, axis=0), 120, axis=1)
    tab.page.fill("#strength", "0")
    tab.page.set_input_files("#file", write_webm(tmp_path / "patches.webm", [patches] * 15))
    tab.live()

    def furthest() -> float:
        shown = tab.canvas()
        middles = [(slice(y + 30, y + 106), slice(x + 30, x + 90)) for y in (0, 136) for x in range(0, 480, 120)]
        return max(np.abs(shown[at].mean((0, 1)) - patches[at].mean((0, 1))).max() for at in middles)

    tab.until(lambda: furthest() < FLAT)
    tab.until(lambda: tab.page.inner_text("#transport") == "WebRTC")
    picture = tmp_path / "patches.png"  # whose range Chromium mixes up
    picture.write_bytes(cv2.imencode(".png", patches)[1].tobytes())
    tab.page.set_input_files("#file", picture)
    tab.until(lambda: tab.page.inner_text("#transport") == "WebSocket" and furthest() < FLAT / 4)


def test_a_video_that_the_browser_pauses_goes_on(tab: Tab) -> None:
    tab.page.evaluate(
        """() => {
            const own = HTMLMediaElement.prototype.play;
            window.played = new Set();
            HTMLMediaElement.prototype.play = function () { return own.call(played.add(this) && this); };
        }"""
    )
    tab.start()
    assert tab.page.evaluate("played.size") == 2  # the camera's, and the styled one
    tab.page.evaluate("for (const video of played) video.pause()")
    tab.until(lambda: tab.page.evaluate("[...played].every((video) => !video.paused)"))


def test_a_file_that_cannot_go_over_webrtc_leaves_it_to_the_camera(
    open_tab: OpenTab, server: Server, scene: list[Frame], tmp_path: Path
) -> None:
    """As in Safari, which captures no video."""
    tab = open_tab(server.url)
    tab.page.evaluate("delete HTMLMediaElement.prototype.captureStream")
    tab.page.set_input_files("#file", write_webm(tmp_path / "clip.webm", scene))
    tab.live()
    tab.until(lambda: tab.page.inner_text("#transport") == "WebSocket")
    tab.page.select_option("#source", index=0)
    tab.until(lambda: tab.page.inner_text("#transport") == "WebRTC")


def test_survives_a_server_restart(tab: Tab, server: Server) -> None:
    tab.start()
    with server.away():
        tab.until(lambda: tab.state == "lost")
    tab.live()
    forgive(tab, *AWAY)


def test_websocket_where_webrtc_does_not_get_through(open_tab: OpenTab, server: Server) -> None:
    """In a network that lets no datagram pass: here, each side hears of no address of the other."""

    def without_addresses(route: Route) -> None:
        answer = route.fetch(post_data=CANDIDATE.sub("", route.request.post_data or ""))
        route.fulfill(response=answer, body=CANDIDATE.sub("", answer.text()))

    tab = open_tab(server.url)
    tab.page.route("**/offer", without_addresses)
    tab.start()
    tab.until(lambda: tab.page.inner_text("#transport") == "WebSocket")
    assert tab.requests.count(server.url + "offer") == 1
    tab.page.click("#start")
    tab.start()
    tab.until(lambda: len(tab.received) > 3)
    assert tab.requests.count(server.url + "offer") == 1  # it is remembered
