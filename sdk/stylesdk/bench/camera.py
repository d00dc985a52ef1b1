"""Camera to sink: the live pipeline with a camera that is on time, and a sink that looks at the clock."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

from stylesdk.frames import Frame
from stylesdk.live.clock import ticks
from stylesdk.live.pipeline import run_pipeline
from stylesdk.live.progress import Counts
from stylesdk.live.sinks import NullSink
from stylesdk.live.sources import Kind, SourceFrame
from stylesdk.stylizer import Stylizer

WARM_UP = 3
_NANOSECOND = Fraction(1, 1_000_000_000)


class PacedSource:
    """The same frame again and again, by the clock; its time is the clock's when it was due.

    Args:
        image: BGR uint8 (H, W, 3), made beforehand: a camera's frames cost the processor nothing.
        fps: frames a second; ``math.inf`` is as fast as they are taken, each of them.
        frames: how many; None is endless.
    """

    name = description = "test"
    kind: Kind = "test"
    paths: Sequence[Path] = ()

    def __init__(self, image: Frame, fps: float, frames: int | None = None) -> None:
        self.live = not math.isinf(fps)
        self.fps = Fraction(fps).limit_denominator(1001) if self.live else None
        self.frames = frames
        self._image, self._rate = image, fps

    def __iter__(self) -> Iterator[SourceFrame]:
        for due in islice(ticks(self._rate), self.frames):
            yield SourceFrame(self._image, "", round(due / _NANOSECOND), _NANOSECOND)

    def close(self) -> None:
        """Nothing is held open."""


class AgeSink(NullSink):
    """Drops every frame, and keeps in ``ages`` how many seconds after it was due it came."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.ages: list[float] = []
        self._clock = clock

    def write(self, image: Frame, frame: SourceFrame) -> None:  # noqa: ARG002
        """Drop ``image``, keep the frame's age."""
        self.ages.append(self._clock() - (frame.seconds or 0))


def camera_to_sink(stylizer: Stylizer, frame: Frame, frames: int, fps: float) -> tuple[list[float], Counts]:
    """Seconds from capture to delivery of ``frames`` frames of a camera, after warm-up, and what was dropped."""
    sink, stop, seen = AgeSink(), threading.Event(), []

    def enough(counts: Counts) -> None:
        seen.append(counts)
        if counts.delivered >= WARM_UP + frames:
            stop.set()

    run_pipeline(PacedSource(frame, fps), stylizer, sink, on_frame=enough, stop=stop)
    return sink.ages[WARM_UP:], seen[-1]


def flat_out(stylizer: Stylizer, frame: Frame, frames: int) -> float:
    """Frames a second of the pipeline when a frame is always there."""
    return run_pipeline(PacedSource(frame, math.inf, frames), stylizer, NullSink()).fps
