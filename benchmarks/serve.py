"""A well-behaved client of `stylesdk serve`, alone and while others attack, in the same run.

    python benchmarks/serve.py --json benchmarks/results/serve.json

A server of its own is started with a token and four places. One client sends 640x480 frames over a WebSocket as fast
as they are answered, two under way at most, and measures what comes back: a camera's rate would hide a server that has
become slower. It does so alone and under attack, by rounds. The attackers sit in one process with the lowest priority
(nice 19), so that on a small machine it is their effect on the server that is measured, and not the processor time
that they take themselves: they would not share the server's machine. The server's runtime has one thread, or a small
machine would have no time left for them. They do, all at once and again as soon as they are thrown out: 200
connections that say nothing; requests that never end; pipelined requests of what needs no token; messages of 50 MB;
broken JPEGs; floods of tiny messages; WebRTC offers of callers that never connect (these four know the token);
another site's Origin; no token.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from aiortc import RTCConfiguration, RTCPeerConnection
from reports import Requirement, conclude, header, run_script
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from stylesdk.latency import percentiles
from stylesdk.live.scene import render_frame

TOKEN = "token-of-the-benchmark"
KEY = {"Authorization": f"Bearer {TOKEN}"}
CROWD = 200
LARGE = 50 << 20
PATIENCE = 60.0  # seconds for the server to start, and for a client to be let in
IN_FLIGHT = 2
WARM_UP = 1.0  # seconds at the start of each turn that are not counted


@dataclass
class Turns:
    """What one client saw in all turns of a kind: seconds watched, and round trips of the answered frames."""

    seconds: float = 0.0
    trips: list[float] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Answered frames a second."""
        return len(self.trips) / self.seconds

    def values(self) -> dict[str, float]:
        """For the report."""
        trips = percentiles(self.trips)
        return {"fps": self.fps, "p50": trips.p50, "p90": trips.p90, "p99": trips.p99, "frames": len(self.trips)}


@contextmanager
def running_server(words: list[str]) -> Iterator[int]:
    """Port of a `stylesdk serve` of our own; stopped afterwards."""
    command = [sys.executable, "-m", "stylesdk.cli", "serve", "--port", "0", "--token", TOKEN, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://localhost:(\d+)/", "".join(islice(process.stdout, 2)))
            if not found:
                raise SystemExit("the server did not start")
            yield int(found[1])
        finally:
            process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            process.wait(PATIENCE)


def pictures(size: tuple[int, int]) -> list[bytes]:
    """Some JPEG frames of the demo scene."""
    frames = (render_frame(index, 100, size) for index in range(0, 100, 10))
    return [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes() for frame in frames]


class Camera:
    """The well-behaved client: the next frame when one is answered, two under way at most."""

    def __init__(self, client: ClientConnection, frames: list[bytes], most: float) -> None:
        self._client, self._frames, self._most = client, frames, most
        self._due = 0.0
        self._sent: dict[int, float] = {}
        self._number = 0

    def watch(self, seconds: float, turns: Turns) -> None:
        """Film for so long, after a second of warm-up, and add what comes back to ``turns``."""
        start = time.perf_counter()
        counted, end = start + WARM_UP, start + WARM_UP + seconds
        while (now := time.perf_counter()) < end:
            if len(self._sent) < IN_FLIGHT and now >= self._due:
                self._due = now + 1 / self._most
                self._send()
            else:
                wait = (self._due if len(self._sent) < IN_FLIGHT else end) - now
                turns.trips += [trip for at, trip in self._answers(wait) if at >= counted]
        turns.seconds += seconds

    def _send(self) -> None:
        self._client.send(struct.pack("<I", self._number) + self._frames[self._number % len(self._frames)])
        self._sent[self._number] = time.perf_counter()
        self._number += 1

    def _answers(self, wait: float) -> Iterator[tuple[float, float]]:
        """When an answer came, and after how long; none when nothing comes."""
        with suppress(TimeoutError):
            message = self._client.recv(timeout=wait)
            if isinstance(message, bytes):
                answered, now = struct.unpack_from("<I", message)[0], time.perf_counter()
                yield now, now - self._sent[answered]
                # The newest frame wins: older ones get no answer any more.
                self._sent = {number: at for number, at in self._sent.items() if number > answered}


KINDS = (
    "silent connections",
    "endless requests",
    "pipelined requests",
    "messages of 50 MB",
    "broken JPEGs",
    "floods of tiny messages",
    "WebRTC offers",
    "another site's Origin",
    "no token",
)


def attack(port: int, counts: Any) -> None:
    """Everything at once until this process is killed; ``counts`` are attempts, in the order of ``KINDS``."""
    with suppress(AttributeError):  # Windows has no nice
        os.nice(19)
    asyncio.run(_attack(port, counts))


async def _attack(port: int, counts: Any) -> None:
    broken = struct.pack("<I", 1) + pictures((480, 640))[0][:5000]
    pipelined = 500 * f"GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    offer = await _offer(port)
    foreign = KEY | {"Origin": "http://evil.example"}
    attempts: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
        (CROWD, lambda: _raw(port, b"")),
        (20, lambda: _raw(port, b"GET / HTTP/1.1\r\nX: ", b"y")),
        (4, lambda: _raw(port, pipelined)),
        (2, lambda: _websocket(port, KEY, bytes(LARGE))),
        (4, lambda: _websocket(port, KEY, broken)),
        (4, lambda: _websocket(port, KEY, b"", 5000)),
        (2, lambda: _raw(port, offer)),
        (4, lambda: _websocket(port, foreign, b"")),
        (4, lambda: _websocket(port, {}, b"")),
    )

    async def again(kind: int, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            counts[kind] += 1
            with suppress(OSError, WebSocketException, TimeoutError, asyncio.TimeoutError, EOFError):
                await attempt()
            await asyncio.sleep(0)

    await asyncio.gather(*(again(kind, run) for kind, (many, run) in enumerate(attempts) for _ in range(many)))


async def _offer(port: int) -> bytes:
    """The HTTP request of a caller that asks to be called, and will not answer."""
    caller = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    caller.addTransceiver("video", direction="sendrecv")
    caller.createDataChannel("control")
    await caller.setLocalDescription(await caller.createOffer())
    body = json.dumps({"sdp": caller.localDescription.sdp, "type": "offer"}).encode()
    await caller.close()
    head = f"POST /offer HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _raw(port: int, first: bytes, drip: bytes = b"") -> None:
    """A connection that sends ``first``, then ``drip`` ten times a second, until it is thrown out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        while not reader.at_eof():
            writer.write(drip)
            await writer.drain()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(1000), 0.1)
    finally:
        writer.transport.abort()


async def _websocket(port: int, headers: dict[str, str], message: bytes, times: int = 1) -> None:
    """A WebSocket that sends ``message`` so many times, and waits until it is thrown out."""
    address = f"ws://localhost:{port}/ws"
    async with connect_async(address, additional_headers=headers, compression=None, proxy=None) as client:
        for _ in range(times):
            await client.send(message)
        async for _ in client:
            pass


def main(
    style: Annotated[str, typer.Option("-s", "--style")] = "six",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT")] = "640x480",
    most: Annotated[float, typer.Option(min=1, help="Frames a second at most; the server takes 120.")] = 100.0,
    rounds: Annotated[int, typer.Option(min=1, help="Each alone, then under attack.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each turn.")] = 8.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the server's runtime.")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Print a client's frame rate alone and under attack."""
    width, height = (int(side) for side in size.split("x"))
    frames = pictures((height, width))
    alone, attacked, attempts = Turns(), Turns(), Counter[str]()
    words = ["-s", style, "--threads", str(threads)]
    with running_server(words) as port:
        address = f"ws://localhost:{port}/ws"
        with connect(address, additional_headers=KEY, compression=None, proxy=None, open_timeout=PATIENCE) as client:
            camera = Camera(client, frames, most)
            for _ in range(rounds):
                camera.watch(seconds, alone)
                with attackers(port, attempts) as under_way:
                    while not under_way():
                        camera.watch(0.5, Turns())
                    camera.watch(seconds, attacked)
    _report(alone, attacked, attempts, {"style": style, "size": size, "most": most, "rounds": rounds}, output)


@contextmanager
def attackers(port: int, attempts: Counter[str]) -> Iterator[Callable[[], bool]]:
    """Attack from another process; what it did is added to ``attempts``. Yields whether every kind has begun."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array("L", len(KINDS))
    process = context.Process(target=attack, args=(port, counts), daemon=True)
    process.start()
    try:
        yield lambda: all(counts[:])
    finally:
        process.kill()
        process.join(PATIENCE)
        attempts.update(dict(zip(KINDS, counts[:], strict=True)))


def _report(
    alone: Turns, attacked: Turns, attempts: Counter[str], settings: dict[str, Any], output: Path | None
) -> None:
    console = Console()
    table = Table("one client", "frames/s", "p50 ms", "p90 ms", "p99 ms")
    for name, turns in (("alone", alone), ("under attack", attacked)):
        values = turns.values()
        table.add_row(name, *(f"{values[key]:.1f}" for key in ("fps", "p50", "p90", "p99")))
    console.print(table)
    for kind, count in attempts.items():
        console.print(f"{count:7d} {kind}", highlight=False)
    report = header() | settings | {"alone": alone.values(), "attacked": attacked.values(), "attempts": dict(attempts)}
    kept = attacked.fps / alone.fps
    conclude(console, [Requirement("frame rate under attack, of that alone", kept, at_least=0.9)], report, output)


if __name__ == "__main__":
    run_script(main)
