"""`stylesdk serve`: page, token, looks and frames over a real WebSocket."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from served import PATIENCE, Served, decoded, jpeg, receive, refused, send_frame, served

from stylesdk import SourceError, __version__
from stylesdk.backends.fake import FakeBackend
from stylesdk.frames import Frame
from stylesdk.live.sources import SourceFrame
from stylesdk.live.styling import Look
from stylesdk.mix import Weights
from stylesdk.web.files import title_of
from stylesdk.web.guard import Door
from stylesdk.web.limits import Limits
from stylesdk.web.server import bound, door_for
from stylesdk.web.studio import Seat, Studio
from tiny_models import coded_onnx, picture_onnx, write_with_companions


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page")) as running:
        yield running


class GatedBackend(FakeBackend):
    """Waits before each frame, but for thumbnails, until it is let go on, frame by frame."""

    def __init__(self) -> None:
        super().__init__(styles=("invert", "grey", "light"))
        self.gate, self.inside = threading.Semaphore(0), threading.Event()

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        if frame.shape[0] == 120:
            self.inside.set()
            assert self.gate.acquire(timeout=PATIENCE)
        return super().infer(frame, strength, style)


def away(found: np.ndarray, wanted: np.ndarray | float) -> float:
    return float(np.abs(found.astype(float) - wanted).mean())


def test_frames_come_back_in_style(server: Served, frame: np.ndarray) -> None:
    sent = jpeg(frame)
    with server.websocket() as client:
        for number in (7, 4_000_000_000):
            send_frame(client, number, sent)
            answer, milliseconds, styled = receive(client, "frame")
            assert answer == number
            assert 0 < milliseconds < 1000 * PATIENCE
            assert styled.shape == frame.shape
            assert away(styled, 255 - decoded(sent).astype(float)) < 3
    server.until(clients=0)
    assert server.health()["frames"] >= 2


def test_a_look_is_echoed_and_holds(server: Served, frame: np.ndarray) -> None:
    with server.websocket() as client:
        client.send(json.dumps({"look": {"style": {"grey": 1, "light": 1}, "strength": 0.5}}))
        look = receive(client, "look")
        assert look == {"style": {"grey": 1, "light": 1}, "strength": 0.5, "keep_color": False, "smoothing": 0}
        client.send(json.dumps({"look": {"strength": 1, "smoothing": 0.25, "keep_color": True}}))
        look = receive(client, "look")
        assert look == {"style": {"grey": 1, "light": 1}, "strength": 1, "keep_color": True, "smoothing": 0.25}
        client.send(json.dumps({"look": {"keep_color": False}}))
        receive(client, "look")
        send_frame(client, 0, jpeg(frame))
        assert away(receive(client, "frame")[2], 75) < 2  # grey is 50, light 100


def test_clients_have_their_own_looks(server: Served, frame: np.ndarray) -> None:
    with server.websocket() as one, server.websocket() as other:
        one.send(json.dumps({"look": {"style": {"grey": 1}}}))
        other.send(json.dumps({"look": {"style": {"light": 1}}}))
        for client in (one, other):
            receive(client, "look")
            send_frame(client, 1, jpeg(frame))
        assert away(receive(one, "frame")[2], 50) < 2
        assert away(receive(other, "frame")[2], 100) < 2


def test_every_client_begins_with_the_servers_look(tmp_path: Path, frame: np.ndarray) -> None:
    begin = Look(strength=0.5, smoothing=0.25)
    with served(tmp_path, look=begin) as server:
        config = json.loads(server.get("/config.js").text.removeprefix("window.STYLESDK = ").rstrip(";\n"))
        assert config["default"] == {"style": {"invert": 1}, "strength": 0.5, "keep_color": False, "smoothing": 0.25}
        with server.websocket() as one:
            one.send(json.dumps({"look": {"style": {"grey": 1}, "strength": 1, "smoothing": 0}}))
            assert receive(one, "look")["strength"] == 1
        with server.websocket() as other:
            other.send(json.dumps({"look": {"keep_color": True}}))
            assert receive(other, "look") == config["default"] | {"keep_color": True}, "not what the one before chose"
    assert begin == Look(strength=0.5, smoothing=0.25), "the caller's own"


@pytest.mark.parametrize(("style", "level"), [("auto", 60), ("picture.png", 90)])
def test_an_empty_mix_is_the_servers_own_style(tmp_path: Path, style: str, level: int) -> None:
    """The page sends on connection what it was told that holds."""
    kinds = {"encoder": 1.0, "chooser": 0.5}
    graphs = {kind: picture_onnx(kind, "paint", ("low", "high"), factor) for kind, factor in kinds.items()}
    model = write_with_companions(tmp_path, coded_onnx(), graphs)
    image = np.full((120, 160, 3), (20, 40, 60), np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((20, 20, 3), (10, 20, 60), np.uint8))
    asked = style if style == "auto" else tmp_path / style
    with served(tmp_path, model=f"{model}:{asked}") as server, server.websocket() as client:
        config = json.loads(server.get("/config.js").text.removeprefix("window.STYLESDK = ").rstrip(";\n"))
        assert config["default"]["style"] == {}
        client.send(json.dumps({"look": config["default"]}))
        assert receive(client, "look") == config["default"]
        send_frame(client, 1, jpeg(image))
        assert away(receive(client, "frame")[2], level) < 3


def test_the_newest_frame_wins(tmp_path: Path, frame: np.ndarray) -> None:
    backend = GatedBackend()
    with served(tmp_path, backend=backend) as server, server.websocket() as client:
        send_frame(client, 1, jpeg(frame))
        assert backend.inside.wait(PATIENCE)
        for number in range(2, 7):
            send_frame(client, number, jpeg(frame))
        while receive(client, "figures")["dropped"] < 4:
            pass
        for number in (1, 6):
            backend.gate.release()
            assert receive(client, "frame")[0] == number
        figures = receive(client, "figures")
        while not figures["fps"]:
            figures = receive(client, "figures")
        assert figures["dropped"] == 4 and figures["backend"] == "fake"
        assert 0 < figures["p50"] <= figures["p99"] and figures["age"] > 0


def test_everyone_has_a_turn(tmp_path: Path, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, put, there = GatedBackend(), Studio.put, threading.Event()

    def watched(studio: Studio, seat: Seat, number: int, sent: SourceFrame) -> None:
        put(studio, seat, number, sent)
        if number == 100:
            there.set()

    monkeypatch.setattr(Studio, "put", watched)
    with served(tmp_path, backend=backend) as server, server.websocket() as greedy, server.websocket() as modest:
        send_frame(greedy, 0, jpeg(frame))
        assert backend.inside.wait(PATIENCE)
        for number in (1, 2, 3):
            send_frame(greedy, number, jpeg(frame))
        while receive(greedy, "figures")["dropped"] < 2:
            pass
        send_frame(modest, 100, jpeg(frame))
        assert there.wait(PATIENCE)
        for client, number in ((greedy, 0), (modest, 100), (greedy, 3)):
            backend.gate.release()
            assert receive(client, "frame")[0] == number


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{", "no JSON"),
        ("[" * 4000, "no JSON"),
        ('"look"', "no look"),
        ('{"look": 1}', "no look"),
        ('{"look": {"strength": 2}}', "strength"),
        ('{"look": {"strength": NaN}}', "strength"),
        ('{"look": {"strength": true}}', "strength"),
        ('{"look": {"keep_color": 1}}', "keep_color"),
        ('{"look": {"style": "wave"}}', "style"),
        ('{"look": {"style": {"nobody": 1}}}', "style 'nobody'"),
        ('{"look": {"style": {"grey": -1}}}', "style"),
        ('{"look": {"style": {"grey": 0}}}', "weights"),
        ('{"look": {"style": {"grey": 1' + "0" * 400 + "}}}", "style"),
        ('{"look": {"styles": ["x"]}}', "styles"),
    ],
)
def test_what_is_no_look_is_refused(server: Served, text: str, got: str) -> None:
    with server.websocket() as client:
        client.send(text)
        code, error = refused(client)
    assert code == 1007
    assert got in error["got"]
    assert error["expected"]


def test_a_frame_that_cannot_be_styled_costs_its_client_the_place(tmp_path: Path, frame: np.ndarray) -> None:
    class Broken(FakeBackend):
        def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
            if frame.shape[0] == 64:
                raise RuntimeError("out of memory")
            return super().infer(frame, strength, style)

    with served(tmp_path, backend=Broken()) as server, server.websocket() as good, server.websocket() as bad:
        send_frame(bad, 0, jpeg(frame[:64]))
        got = "a frame that could not be styled (RuntimeError)"
        assert refused(bad) == (1011, {"code": 1011, "got": got, "expected": "", "do": ""})
        send_frame(good, 5, jpeg(frame))
        assert receive(good, "frame")[0] == 5


def test_places(tmp_path: Path, frame: np.ndarray) -> None:
    with served(tmp_path, limits=Limits(clients=1, silent=PATIENCE)) as server:
        with server.websocket() as first:
            send_frame(first, 0, jpeg(frame))
            receive(first, "frame")
            with server.websocket() as second:
                code, error = refused(second)
            assert code == 1013 and "1 places taken" in error["got"] and "--clients" in error["do"]
            assert server.health()["clients"] == 1
        server.until(clients=0)
        with server.websocket() as third:
            send_frame(third, 1, jpeg(frame))
            assert receive(third, "frame")[0] == 1


def test_a_silent_place_is_given_to_a_newcomer(tmp_path: Path, frame: np.ndarray) -> None:
    """A client that is gone without a word: its connection stays open, for all that the server can tell."""
    with served(tmp_path, limits=Limits(clients=1, silent=0.2)) as server, server.websocket() as ghost:
        send_frame(ghost, 0, jpeg(frame))
        assert receive(ghost, "frame")[0] == 0
        time.sleep(0.3)
        with server.websocket() as newcomer:
            send_frame(newcomer, 1, jpeg(frame))
            assert receive(newcomer, "frame")[0] == 1
            code, error = refused(ghost)
            assert code == error["code"] == 1001 and "someone else waits" in error["got"]


def test_the_page_and_what_it_is_told(server: Served) -> None:
    page, script = server.get("/"), server.get("/ui.js")
    assert page.headers["content-type"].startswith("text/html") and "<title>test" in page.text
    assert script.headers["content-type"].startswith("text/javascript")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and f"ws://localhost:{server.door.port}" in policy
    again = server.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304 and not again.content
    text = server.get("/config.js").text
    config = json.loads(text.removeprefix("window.STYLESDK = ").rstrip(";\n"))
    assert config == {
        "mode": "server",
        "version": __version__,
        "backend": "fake",
        "styles": [
            {"name": name, "title": name.capitalize(), "thumbnail": f"thumbnails/{name}.jpg"}
            for name in ("invert", "grey", "light")
        ],
        "default": {"style": {"invert": 1}, "strength": 1, "keep_color": False, "smoothing": 0},
        "transports": ["webrtc", "websocket"],
        "limits": {"max_side": 1920, "max_bytes": 2097152},
    }
    thumbnail = server.get("/thumbnails/grey.jpg")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    image = decoded(thumbnail.content)
    assert image.shape == (108, 192, 3) and away(image, 50) < 2


@pytest.mark.parametrize("path", ["/nothing.js", "/../app.py", "/..%2fapp.py", "/thumbnails/", "/ui.js/"])
def test_nothing_else_is_served(server: Served, path: str) -> None:
    assert server.get(path).status_code == 404


def test_titles_are_for_people() -> None:
    assert [title_of(name) for name in ("composition_vii", "the_scream")] == ["Composition VII", "The Scream"]


def test_a_page_without_index_is_an_error(tmp_path: Path) -> None:
    from stylesdk.web.files import page_files

    with pytest.raises(SourceError, match=r"no index\.html"):
        page_files(tmp_path)


def test_a_token_is_asked_for_everywhere(tmp_path: Path, frame: np.ndarray) -> None:
    token = "a-secret-of-the-test"
    with served(tmp_path, token=token) as server:
        assert server.door.url == f"http://localhost:{server.door.port}/?token={token}"
        for path in ("/", "/ui.js", "/config.js", "/thumbnails/grey.jpg", "/?token=wrong"):
            answer = server.get(path)
            assert answer.status_code == 401 and "stylesdk serve" in answer.text, path
        assert server.health()["status"] == "ok"
        with server.websocket() as stranger:
            assert refused(stranger)[0] == 1008
        welcome = server.get(f"/?token={token}")
        assert welcome.status_code == 303 and welcome.headers["location"] == "/"
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
        held = {"Cookie": cookie.split(";")[0]}
        named = {"Host": "gpu-box.local:8000"}  # a name that the server does not know: the token says enough
        assert server.get("/", headers=held | named).status_code == 200
        assert "wss://gpu-box.local:8000" in server.get("/", headers=held | named).headers["content-security-policy"]
        assert server.get("/", headers=named).status_code == 401
        assert server.get("/", headers=held | {"Host": "x; script-src *"}).status_code == 421
        numbered = server.get("/", headers=held | {"Host": "[fd00::2]:8000"})
        assert numbered.status_code == 200 and "fd00" not in numbered.headers["content-security-policy"]
        assert server.get("/", headers=held).status_code == 200
        for headers in (held, {"Authorization": f"Bearer {token}"}):
            with server.websocket(additional_headers=headers) as known:
                send_frame(known, 3, jpeg(frame))
                assert receive(known, "frame")[0] == 3


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.0.7", "", "[::1"])
def test_a_name_that_leads_here_is_not_enough(server: Served, host: str) -> None:
    answer = server.get("/", headers={"Host": host})
    assert answer.status_code in (400, 421)


def test_other_sites_get_no_place(server: Served, frame: np.ndarray) -> None:
    own = f"http://localhost:{server.door.port}"
    for origin in ("http://evil.example", "null", f"http://localhost:{server.door.port + 1}", own + ".evil.example"):
        with server.websocket(origin=origin) as client:
            code, error = refused(client)
        assert code == 1008 and "Origin" in error["got"]
    with server.websocket(origin=own) as client:
        send_frame(client, 1, jpeg(frame))
        assert receive(client, "frame")[0] == 1


def test_beyond_this_machine_there_is_a_token() -> None:
    with bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert door_for(listening, "127.0.0.1", None, tls=False) == Door("127.0.0.1", port)
        outside = door_for(listening, "0.0.0.0", None, tls=True)
        assert len(outside.token) >= 24
        name, *number = (re.fullmatch(rf"https://([^/]+):{port}/\?token={outside.token}", url) for url in outside.urls)
        assert name and name[1] == socket.gethostname()
        assert all(found and not ipaddress.ip_address(found[1]).is_unspecified for found in number)
        assert door_for(listening, "0.0.0.0", "chosen-by-me", tls=False).token == "chosen-by-me"
        assert Door("fd00::2", 80).urls == ["http://[fd00::2]:80/"]
        assert Door("127.0.0.2", 80).urls == ["http://127.0.0.2:80/"]  # where nothing listens at localhost


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_cannot_be_had(host: str) -> None:
    with bound("127.0.0.1", 0) as other, pytest.raises(SourceError, match="--port"):
        bound(host, other.getsockname()[1])
