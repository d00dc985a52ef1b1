"""A real server on a free port, and clients that know its wire."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.live.styling import Look
from stylesdk.web.app import create_app
from stylesdk.web.guard import Door
from stylesdk.web.limits import Limits
from stylesdk.web.server import bound, door_for, serve

PATIENCE = 20  # seconds, for anything that takes milliseconds on a machine that is not busy


@dataclass
class Served:
    """A running server: its door, its stylizer's backend, and clients for it."""

    door: Door
    backend: FakeBackend

    @property
    def url(self) -> str:
        return f"http://localhost:{self.door.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=PATIENCE, **options)

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/healthz").json()
        return found

    def websocket(self, **options: Any) -> ClientConnection:
        options = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "proxy": None} | options
        return connect(f"ws://localhost:{self.door.port}/ws", **options)

    def until(self, **wanted: Any) -> None:
        """Wait until the health report has these values."""
        end = time.monotonic() + PATIENCE
        while {key: self.health()[key] for key in wanted} != wanted:
            assert time.monotonic() < end, self.health()
            time.sleep(0.02)


@contextmanager
def served(
    page: Path,
    *,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    backend: FakeBackend | None = None,
    model: str | None = None,
    look: Look | None = None,
) -> Iterator[Served]:
    """A server in a thread: of ``model``, else of ``backend``, else of the fake backend with three styles."""
    backend = backend or FakeBackend(styles=("invert", "grey", "light"))
    limits, stop = limits or Limits(connect=PATIENCE), threading.Event()
    (page / "index.html").write_text("<!doctype html><title>test</title>")
    (page / "ui.js").write_text("'use strict';")
    listening = bound(host, 0)
    door = door_for(listening, host, token, tls=False)
    before = set(threading.enumerate())
    named = Stylizer(model, device="cpu", runtime="onnxruntime", threads=1) if model else None
    with named or Stylizer(backend=backend) as stylizer:
        app = create_app(stylizer, door, limits, page, look)
        thread = threading.Thread(target=serve, args=(app, listening, limits, stop))
        thread.start()
        try:
            yield Served(door, backend)
        finally:
            stop.set()
            thread.join(PATIENCE)
        assert not thread.is_alive()
    assert {left for left in threading.enumerate() if "stylesdk" in left.name} <= before


def jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def send_frame(client: ClientConnection, number: int, data: bytes) -> None:
    client.send(struct.pack("<I", number) + data)


def receive(client: ClientConnection, kind: str) -> Any:
    """The next message of a kind, others are passed over: ``frame`` -> (number, ms, image); else the JSON's value."""
    end = time.monotonic() + PATIENCE
    while True:
        message = client.recv(timeout=end - time.monotonic())
        if isinstance(message, bytes):
            if kind == "frame":
                number, milliseconds = struct.unpack_from("<If", message)
                return number, milliseconds, decoded(message[8:])
        elif kind in (values := json.loads(message)):
            return values[kind]


def refused(client: ClientConnection) -> tuple[int, dict[str, str]]:
    """Read until the server hangs up: the code of the close, and the error that was told before it."""
    error: dict[str, str] = {}
    end = time.monotonic() + PATIENCE
    try:
        while True:
            message = client.recv(timeout=end - time.monotonic())
            if isinstance(message, str):
                error = json.loads(message).get("error", error)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, closed
        return closed.rcvd.code, error
