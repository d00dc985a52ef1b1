"""A stream of frames on a runtime that can have more than one under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stylesdk.backends import QueueingBackend
from stylesdk.frames import Fit, Frame, finished, prepared
from stylesdk.latency import Latency
from stylesdk.mix import Weights

Look = tuple[float, Weights | None, bool]  # strength, style, keep_color


@dataclass(frozen=True)
class _Under:
    """A frame that is under way."""

    ticket: Any
    photo: Frame
    fit: Fit
    seconds: float  # spent on it so far


def overlapped(
    backend: QueueingBackend, frames: Iterable[Frame], look: Look, latency: Latency, check: Callable[[], object]
) -> Iterator[Frame]:
    """Style ``frames``, in order, with one under way while the next is prepared; ``check`` raises when closed."""
    before: _Under | None = None
    try:
        for frame in frames:
            check()
            under = _queue(backend, frame, look, latency)
            done, before = before, under
            if done is not None:
                yield _deliver(backend, done, look, latency)
        if before is not None:
            check()
            done, before = before, None
            yield _deliver(backend, done, look, latency)
    finally:
        # Whoever stops early leaves a frame under way, and its place is needed again.
        if before is not None:
            backend.drop(before.ticket)


def _queue(backend: QueueingBackend, frame: Frame, look: Look, latency: Latency) -> _Under:
    start = time.perf_counter()
    with latency.stage("preprocess"):
        photo, fit, canvas = prepared(frame, backend.canvas)
    ticket = backend.submit(canvas, *look[:2])
    return _Under(ticket, photo, fit, time.perf_counter() - start)


def _deliver(backend: QueueingBackend, under: _Under, look: Look, latency: Latency) -> Frame:
    """The result of a queued frame. Its total is the time that it kept this thread, not that of its journey."""
    start = time.perf_counter()
    with latency.stage("inference"):
        styled = backend.collect(under.ticket)
    with latency.stage("postprocess"):
        result = finished(styled, under.photo, under.fit, look[2])
    latency.add("total", under.seconds + time.perf_counter() - start)
    return result
