"""Ctrl-C, SIGTERM and a closed terminal, as an event to look at between two frames."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closed terminal set, so that a video is finished before the program ends.

    The second one ends the program at once, by the system: whatever hangs cannot stop it.
    """
    event = threading.Event()

    def first(*_: object) -> None:
        event.set()
        for number in before:
            signal.signal(number, signal.SIG_DFL)

    # SIGHUP: a closed terminal, unless nohup had it ignored; SIGBREAK: a closed console of Windows, or Ctrl-Break.
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names if hasattr(signal, name)}
    if hasattr(signal, "SIGHUP") and before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, first)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
