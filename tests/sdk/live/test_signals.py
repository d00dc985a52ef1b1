"""Ctrl-C and SIGTERM, as a terminal and a service manager send them, and what systemd is told meanwhile."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clips import read_clip
from x_server import wait_until

from stylesdk.live import Counts
from stylesdk.live.systemd import Service

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to a process"),
]


@contextmanager
def running(folder: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "stylesdk.cli", "run", *words, "-s", "starry_night.nano", "--runtime", "onnxruntime"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, cwd=folder, env=os.environ | env, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def wait_for_part(folder: Path, size: int) -> None:
    """Until the unfinished file holds so many bytes."""
    wait_until(lambda: any(p.stat().st_size >= size for p in folder.glob(".*.part.mp4")), "the unfinished file")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGINT, "test:320x240"),
        (signal.SIGINT, "test:320x240@max"),
        (signal.SIGTERM, "test:320x240"),
        (getattr(signal, "SIGHUP", signal.SIGTERM), "test:320x240"),
    ],
)
def test_signal_finishes_the_file(tmp_path: Path, number: signal.Signals, text: str) -> None:
    with running(tmp_path, text, "-o", "out.mp4") as process:
        wait_for_part(tmp_path, 10_000)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    frames = int(re.search(r"(\d+) frames,", output)[1])  # type: ignore[index]
    assert len(read_clip(tmp_path / "out.mp4").times) == frames > 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("state", "number"), [("importing", signal.SIGINT), ("source open", signal.SIGTERM), ("file begun", signal.SIGINT)]
)
def test_signal_at_any_moment_leaves_a_whole_file_or_none(tmp_path: Path, state: str, number: signal.Signals) -> None:
    with running(tmp_path, "test:160x120", "-o", "out.mp4", PYTHONUNBUFFERED="1") as process:
        if state == "source open":
            assert process.stdout is not None and process.stdout.readline().startswith("a moving test pattern")
        elif state == "file begun":
            wait_for_part(tmp_path, 0)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode in ((130, -number) if state == "importing" else (130,))
    if (tmp_path / "out.mp4").exists():
        assert len(read_clip(tmp_path / "out.mp4").times) > 0
    assert not list(tmp_path.glob(".*"))


_BLOCKED = """
import sys, threading, time
from stylesdk.interrupts import stop_on_signals
with stop_on_signals() as stop:
    print("running", flush=True)
    stop.wait(60)
    print("stopping", flush=True)
    time.sleep(60)  # a disk that hangs
"""


@pytest.mark.parametrize(("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_second_signal_ends_at_once(first: signal.Signals, second: signal.Signals) -> None:
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", _BLOCKED], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "running\n"
        process.send_signal(first)
        assert process.stdout.readline() == "stopping\n"
        start = time.monotonic()
        process.send_signal(second)
        process.wait(timeout=30)
    assert process.returncode == -second and time.monotonic() - start < 20


def test_nohup_is_honoured() -> None:
    from stylesdk.interrupts import stop_on_signals

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back() -> None:
    from stylesdk.interrupts import stop_on_signals

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(stop.is_set, "the event")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# systemd


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield manager


def told(manager: socket.socket) -> list[str]:
    """All messages up to now."""
    manager.setblocking(False)
    found = []
    while True:
        try:
            found.append(manager.recv(100).decode())
        except BlockingIOError:
            return found


def test_systemd_is_told_of_a_real_run(systemd: socket.socket, tmp_path: Path) -> None:
    with running(tmp_path, "test:160x120", "-o", "null") as process:
        assert systemd.recv(100) == b"READY=1"
        signs = [systemd.recv(100) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert signs == [b"WATCHDOG=1"] * 3
    assert process.returncode == 130 and told(systemd)[-1] == "STOPPING=1"


def counts(delivered: int, cards: int) -> Counts:
    return Counts(delivered, delivered, 0, 1.0, cards=cards)


def test_signs_of_life_are_few_and_a_card_is_one(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("stylesdk.live.systemd.time.monotonic", lambda: now[0])
    with Service() as service:
        service.frame(counts(1, 1))
        assert told(systemd) == ["READY=1", "WATCHDOG=1"]
        for delivered in range(2, 6):  # cards, one a second
            now[0] += 1
            service.frame(counts(delivered, delivered))
        assert told(systemd) == ["WATCHDOG=1"] * 4
        for delivered in range(6, 16):  # a frame each eighth of a second
            now[0] += 0.125
            service.frame(counts(delivered, 5))
        assert told(systemd) == ["WATCHDOG=1"] * 2
    assert told(systemd) == ["STOPPING=1"]


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace is Linux's")
def test_abstract_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"stylesdk-test-{os.getpid()}"
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        with Service():
            pass
        assert told(manager) == ["STOPPING=1"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify"])
def test_no_manager_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    with Service() as service:
        service.frame(counts(1, 0))
