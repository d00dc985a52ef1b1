"""Clients that mean harm are refused, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from served import PATIENCE, Served, jpeg, receive, refused, send_frame, served
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from stylesdk.web.jpeg import frame_from_jpeg
from stylesdk.web.limits import Allowance, Limits, Refusal
from stylesdk.web.sessions import until_first


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def friend(server: Served, frame: np.ndarray) -> Iterator[ClientConnection]:
    """Someone else, who is served before and after whatever a test does."""
    with server.websocket() as client:
        for number in (1, 2):
            send_frame(client, number, jpeg(frame))
            assert receive(client, "frame")[0] == number
            if number == 1:
                yield client
    server.until(clients=0)


@pytest.fixture
def raw(server: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.door.port), timeout=PATIENCE) as connection:
        yield connection


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header says another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def progressive(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def many_scans(data: bytes) -> bytes:
    at = data.index(b"\xff\xda")
    return data[:at] + 1000 * data[at : at + 40] + data[at:]


def hidden(data: bytes, marker: bytes) -> bytes:
    """A large frame header behind a marker of no length, for who takes it for one; then a small one in a comment."""
    scan, small = data.index(b"\xff\xda"), data[data.index(b"\xff\xc0") :][:19]
    large = with_size(data, 65500, 65500)[2:scan] + b"\xff\xfe" + struct.pack(">H", 2 + len(small))
    return data[:2] + marker + struct.pack(">H", 2 + len(large)) + large + small + data[scan:]


def cases(frame: np.ndarray) -> dict[str, tuple[bytes, int]]:
    good = jpeg(frame)
    return {
        "empty": (b"", 1003),
        "no JPEG": (b"GIF89a" + bytes(100), 1003),
        "PNG": (cv2.imencode(".png", frame)[1].tobytes(), 1003),
        "only the start": (b"\xff\xd8\xff\xd9", 1007),
        "cut off": (good[: len(good) // 2], 1007),
        "no pixels": (good[: good.index(b"\xff\xda")] + b"\xff\xd9", 1007),
        "header of nothing": (b"\xff\xd8\xff\xe0\x00\x00" + bytes(50) + b"\xff\xd9", 1007),
        "header without end": (b"\xff\xd8" + b"\xff\xe0\xff\xff" * 20 + b"\xff\xd9", 1007),
        "progressive": (progressive(frame), 1007),
        "many scans": (many_scans(good), 1007),
        "hidden behind TEM": (hidden(good, b"\xff\x01"), 1007),
        "hidden behind RST": (hidden(good, b"\xff\xd0"), 1007),
        "fill bytes": (good[:2] + b"\xff" + good[2:], 1007),
        "bomb": (with_size(good, 65500, 65500), 1009),
        "wide": (with_size(good, 1921, 100), 1009),
        "square": (with_size(good, 1900, 1900), 1009),
        "flat": (with_size(good, 100, 1), 1009),
    }


def test_no_frame_at_all(server: Served, friend: ClientConnection, frame: np.ndarray) -> None:
    for name, (data, expected) in cases(frame).items():
        with server.websocket() as client:
            send_frame(client, 0, data)
            code, error = refused(client)
            assert code == expected, name
            assert error["got"] and error["expected"], name


def test_bombs_are_not_decoded(frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the header alone: these bytes would take minutes, or gigabytes."""
    bombs = [cases(frame)[name][0] for name in ("bomb", "hidden behind TEM", "many scans", "progressive")]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for data in bombs:
        with pytest.raises(Refusal):
            frame_from_jpeg(data, Limits())


def test_an_orientation_is_not_looked_at(frame: np.ndarray) -> None:
    entry = struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0)  # one entry: orientation, one short, turned right
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + entry + bytes(4)
    data = jpeg(frame)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[0] == frame.shape[1]
    assert frame_from_jpeg(turned, Limits()).shape == frame.shape


def test_a_message_of_fifty_megabytes_is_refused_while_it_arrives(
    server: Served, friend: ClientConnection, raw: socket.socket
) -> None:
    upgrade(server, raw)
    size, sent = 50 << 20, 0
    raw.sendall(b"\x82\xff" + struct.pack(">Q", size) + bytes(4))
    with pytest.raises(OSError):
        while sent < size:
            sent += raw.send(bytes(1 << 16))
            time.sleep(0.001)
    assert sent < size // 2


def test_a_large_message_says_1009(server: Served, friend: ClientConnection, raw: socket.socket) -> None:
    upgrade(server, raw)
    raw.sendall(b"\x82\xff" + struct.pack(">Q", (2 << 20) + 1) + bytes(4))  # it is refused by its length alone
    answer = b""
    while part := raw.recv(1000):
        answer += part
    assert re.search(b"\x88." + struct.pack(">H", 1009), answer, re.DOTALL)


def upgrade(server: Served, connection: socket.socket) -> None:
    connection.sendall(
        f"GET /ws HTTP/1.1\r\nHost: localhost:{server.door.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1000)
    assert b" 101 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("kind", [0x89, 0x81, 0x00], ids=["pings", "texts", "fragments"])
def test_a_flood_of_tiny_messages_is_cut_off(
    server: Served, friend: ClientConnection, raw: socket.socket, kind: int
) -> None:
    upgrade(server, raw)
    if kind == 0x00:
        raw.sendall(bytes((0x02, 0x80)) + bytes(4))  # a message that never ends
    tiny = bytes((kind, 0x80)) + bytes(4)
    with pytest.raises(OSError):  # reset, or a broken pipe
        for _ in range(10_000):
            raw.sendall(tiny * 1000)
            time.sleep(0.001)


def test_ever_other_sizes_are_refused(server: Served, friend: ClientConnection, frame: np.ndarray) -> None:
    with server.websocket() as client:
        end = time.monotonic() + PATIENCE
        with pytest.raises(ConnectionClosed) as closed:
            for number in range(1000):
                send_frame(client, number, jpeg(frame[: 40 + number % 80]))
                receive(client, "frame")
                assert time.monotonic() < end
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_a_size_may_change_and_change_back(server: Served, frame: np.ndarray) -> None:
    with server.websocket() as client:
        for number, height in enumerate((120, 64, 120, 64)):
            send_frame(client, number, jpeg(frame[:height]))
            assert receive(client, "frame")[2].shape[0] == height


def test_a_flood_of_requests_is_cut_off(tmp_path: Path, frame: np.ndarray) -> None:
    """Pipelined, and to an address that asks for no token; another connection is not concerned."""
    limits = Limits(requests=5, request=PATIENCE)
    with served(tmp_path, limits=limits, token="a-secret-of-the-test") as server, ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.door.port), timeout=PATIENCE))
        answers = b""
        with suppress(ConnectionError):
            raw.sendall(200 * f"GET /healthz HTTP/1.1\r\nHost: localhost:{server.door.port}\r\n\r\n".encode())
            while part := raw.recv(1000):
                answers += part
        assert 5 <= answers.count(b"HTTP/1.1 200") < 100
        assert server.health()["status"] == "ok"


def test_who_hangs_up_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of an offer, of a frame, or before a word could be said."""
    with served(tmp_path) as server:
        host = f"Host: localhost:{server.door.port}\r\n".encode()
        offer = b"POST /offer HTTP/1.1\r\n" + host + b"Content-Length: 100\r\n\r\n{"
        for frames in (None, b"", b"\x82\xfe\x10\x00" + bytes(100), b"\x88\x80" + bytes(4)):
            with socket.create_connection(("127.0.0.1", server.door.port), timeout=PATIENCE) as raw:
                if frames is None:
                    raw.sendall(offer)
                    time.sleep(0.1)
                else:
                    upgrade(server, raw)
                    raw.sendall(frames)
                linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # a reset
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        server.until(clients=0)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_broken_http_is_refused(server: Served, friend: ClientConnection, raw: socket.socket) -> None:
    raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_headers_without_end_are_refused(server: Served, friend: ClientConnection, raw: socket.socket) -> None:
    answer = b""
    with pytest.raises((OSError, EOFError)):
        raw.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(1000):
            raw.sendall(b"X: " + b"y" * 1000 + b"\r\n")
            time.sleep(0.001)
        while part := raw.recv(1000):
            answer += part
        raise EOFError
    assert b"200" not in answer


def test_slow_requests_are_ended(tmp_path: Path, frame: np.ndarray) -> None:
    with served(tmp_path, limits=Limits(request=2)) as server, server.websocket() as friend:
        for number, start in enumerate(
            (b"", b"GET / HTTP/1.1\r\nHost: local", b"POST /offer HTTP/1.1\r\nHost: localhost")
        ):
            send_frame(friend, number, jpeg(frame))
            assert receive(friend, "frame")[0] == number  # in its place it has all the time
            with socket.create_connection(("127.0.0.1", server.door.port), timeout=PATIENCE) as slow:
                if start.startswith(b"POST"):
                    start += b"\r\nContent-Length: 1000\r\n\r\n"
                slow.sendall(start)
                assert ended(slow, drip=b"x")


def ended(connection: socket.socket, drip: bytes = b"") -> bool:
    """Whether the other side hangs up before our patience ends, while ``drip`` is sent again and again."""
    connection.settimeout(0.05)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            connection.send(drip)
            if not connection.recv(1000):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_two_hundred_connections_leave_room_for_one_more(tmp_path: Path, frame: np.ndarray) -> None:
    limits = Limits(waiting=16)
    with served(tmp_path, limits=limits) as server, ExitStack() as stack:
        friend = stack.enter_context(server.websocket())
        send_frame(friend, 1, jpeg(frame))
        receive(friend, "frame")
        address = ("127.0.0.1", server.door.port)
        crowd = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(200)]
        with server.websocket() as newcomer:
            send_frame(newcomer, 2, jpeg(frame))
            assert receive(newcomer, "frame")[0] == 2
        send_frame(friend, 3, jpeg(frame))
        assert receive(friend, "frame")[0] == 3
        for connection in crowd[:150]:
            assert ended(connection)


def test_a_refused_client_that_stays_is_hung_up_on(tmp_path: Path) -> None:
    with (
        served(tmp_path, limits=Limits(clients=1, request=2, silent=PATIENCE)) as server,
        server.websocket(),
        socket.create_connection(("127.0.0.1", server.door.port), timeout=PATIENCE) as deaf,
    ):
        server.until(clients=1)
        upgrade(server, deaf)
        assert ended(deaf)  # it never answers the close


def test_a_client_that_sends_nothing_loses_its_place(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(idle=0.5)) as server, server.websocket() as client:
        code, error = refused(client)
        assert code == 1001 and "nothing for" in error["got"]
        server.until(clients=0)


def test_a_client_that_reads_nothing_loses_its_place(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (700, 700, 3), np.uint8)
    message = struct.pack("<I", 1) + jpeg(noise)
    limits = Limits(stuck=0.5, idle=PATIENCE, request=2)
    with (
        served(tmp_path, limits=limits) as server,
        socket.create_connection(("127.0.0.1", server.door.port), timeout=PATIENCE) as deaf,
    ):
        upgrade(server, deaf)
        server.until(clients=1)
        end = time.monotonic() + PATIENCE
        with pytest.raises(OSError):
            while time.monotonic() < end:
                deaf.sendall(b"\x82\xff" + struct.pack(">Q", len(message)) + bytes(4) + message)
                time.sleep(0.05)
        server.until(clients=0)


def test_texts_have_a_length(server: Served, friend: ClientConnection) -> None:
    with server.websocket() as client:
        client.send(json.dumps({"look": {"strength": 1}, "x": "y" * 5000}))
        assert refused(client)[0] == 1009


def test_offers_that_are_none(server: Served, friend: ClientConnection) -> None:
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
    floods = (601 * "a=x\r\n", 101 * "a=rtpmap:96 VP8/90000\r\n", 201 * "a=rtcp-fb:* nack\r\n")
    for body, status in (
        (b"{", 400),
        (b"[" * 60_000, 400),
        (b"[]", 400),
        (b'{"sdp": 1, "type": "offer"}', 400),
        (b'{"sdp": "", "type": "answer"}', 400),
        (json.dumps({"sdp": "v=0\r\n", "type": "offer"}).encode(), 400),
        (json.dumps({"sdp": "v=0\r\n" + video, "type": "offer"}).encode(), 400),
        (json.dumps({"sdp": "v=0\r\n" + 3 * video, "type": "offer"}).encode(), 400),
        *((json.dumps({"sdp": "v=0\r\n" + video + lines, "type": "offer"}).encode(), 400) for lines in floods),
        (b" " * 70_000, 413),
    ):
        answer = server.post("/offer", content=body)
        assert answer.status_code == status, body[:80]
        assert answer.json()["error"]["got"]
    assert server.health()["clients"] == 1
    assert server.post("/offer", content=b"{}", headers={"Origin": "http://evil.example"}).status_code == 403
    assert server.get("/offer").status_code in (404, 405)


def test_an_allowance_is_so_much_a_second() -> None:
    allowance = Allowance(10, now=100.0)
    assert [allowance.take(10, 100.0) for _ in range(3)] == [True, True, False]
    assert not allowance.take(10, 100.9)
    assert allowance.take(10, 101.1)
    assert [allowance.take(20, 1000.0), allowance.take(1, 1000.0)] == [True, False]
    slow = Allowance(0.5, now=0.0, at_once=6)
    assert [slow.take(1, 0.0) for _ in range(7)] == 6 * [True] + [False]
    assert [slow.take(1, 2.0), slow.take(1, 2.0)] == [True, False]


def test_a_lost_cancellation_hangs_nobody() -> None:
    """asyncio.wait_for swallows one that comes as its own work is done, before Python 3.12."""

    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        await asyncio.sleep(1000)

    async def short() -> None:
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(until_first(deaf(), short()), PATIENCE))
