"""The page on a slow network, and when the server has had enough of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import Server, Tab

pytestmark = pytest.mark.browser

OpenTab = Callable[..., Tab]


def test_a_slow_network_gets_smaller_frames(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab(server.url + "?transport=websocket")
    tab.page.evaluate(
        """() => {
            const { set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
            window.delay = 1300;
            Object.defineProperty(WebSocket.prototype, "onmessage", {
                set(act) { set.call(this, (event) => setTimeout(() => act(event), window.delay)); },
            });
        }"""
    )
    tab.start()
    tab.until(lambda: tab.canvas().shape == (135, 240, 3))
    tab.page.evaluate("window.delay = 0")
    tab.until(lambda: tab.canvas().shape == (270, 480, 3))
    assert tab.state == "live"


def test_what_is_refused_over_webrtc_is_not_tried_again(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab(server.url + "?transport=webrtc")
    tab.page.evaluate(
        """() => {
            const { send } = RTCDataChannel.prototype;
            RTCDataChannel.prototype.send = function () { send.call(this, '{"look": {"strength": 7}}'); };
        }"""
    )
    tab.page.click("#start")
    tab.until(lambda: tab.state == "refused")
    assert "strength = 7" in tab.message
    tab.page.wait_for_timeout(2000)
    assert tab.requests.count(server.url + "offer") == 1
