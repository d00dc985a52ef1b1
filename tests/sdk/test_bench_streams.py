"""The camera's clock, and how many streams hold."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

from stylesdk import DeviceError, ModelFileError, Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.bench import sustained_streams
from stylesdk.bench.camera import AgeSink, PacedSource, camera_to_sink, flat_out
from stylesdk.bench.report import streams_line, streams_of
from stylesdk.bench.streams import largest_that_holds, paced
from stylesdk.live.clock import ticks
from stylesdk.live.sources import SourceFrame


class Clock:
    """A clock that only moves when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


# The camera's clock


def test_ticks_are_on_time_and_keep_their_time_when_late() -> None:
    clock = Clock()
    moments = ticks(10, clock, clock.sleep)
    assert next(moments) == 100
    assert next(moments) == pytest.approx(100.1) and clock.now == pytest.approx(100.1)
    clock.now += 0.25  # late for two
    assert [next(moments), next(moments)] == pytest.approx([100.2, 100.3]) and clock.now == pytest.approx(100.35)
    assert next(moments) == pytest.approx(100.4) and clock.now == pytest.approx(100.4)
    endless = ticks(float("inf"), clock, clock.sleep)
    assert [next(endless) for _ in range(3)] == [pytest.approx(100.4)] * 3


def test_age_is_from_when_a_frame_was_due(frame: np.ndarray) -> None:
    source = PacedSource(frame, 1000, 3)
    assert source.live and float(source.fps or 0) == 1000
    clock = Clock()
    sink = AgeSink(clock)
    for index, each in enumerate(source):
        assert each.seconds is not None
        clock.now = each.seconds + 0.5 + index
        sink.write(frame, each)
    assert sink.ages == pytest.approx([0.5, 1.5, 2.5], abs=1e-6)
    assert not PacedSource(frame, float("inf"), 3).live


def test_slow_model_drops_frames_of_the_camera(frame: np.ndarray) -> None:
    class Slow(FakeBackend):
        def infer(self, frame: np.ndarray, strength: float, style: Any = None) -> np.ndarray:
            threading.Event().wait(0.02)
            return super().infer(frame, strength, style)

    with Stylizer(backend=Slow()) as stylizer:
        ages, counts = camera_to_sink(stylizer, frame[:16, :16], 10, 1000)
        assert len(ages) == 10 and min(ages) >= 0.02, "the model's time is in the age"
        assert counts.delivered == 13 and counts.dropped > 0
        assert flat_out(stylizer, frame[:16, :16], 10) <= 50, "every frame, each 20 ms at least"


def test_frames_without_a_time_do_not_break_the_sink(frame: np.ndarray) -> None:
    sink = AgeSink(lambda: 3.0)
    sink.write(frame, SourceFrame(frame))
    assert sink.ages == [3.0]


# Streams


@pytest.mark.parametrize("delay", [0.5, 0.999])
def test_a_stream_that_keeps_up(delay: float) -> None:
    clock, stop = Clock(), threading.Event()
    found = paced(lambda: clock.sleep(delay), 200, 1, stop, clock, clock.sleep)
    assert (found.done, found.missed) == (200, 0) and not stop.is_set()
    assert found.seconds == pytest.approx(199 + delay)


@pytest.mark.parametrize("delay", [1.01, 3.0])
def test_a_stream_that_falls_behind_ends_all(delay: float) -> None:
    """Two of 200 deadlines may be missed; the third ends it, so that nobody waits for the rest."""
    clock, stop = Clock(), threading.Event()
    found = paced(lambda: clock.sleep(delay), 200, 1, stop, clock, clock.sleep)
    assert (found.done, found.missed) == (3, 3) and stop.is_set()
    assert found.seconds == pytest.approx(3 * delay)


def test_one_slow_frame_is_forgiven() -> None:
    clock, stop, delays = Clock(), threading.Event(), iter([0.1] * 50 + [1.5] + [0.1] * 149)
    found = paced(lambda: clock.sleep(next(delays)), 200, 1, stop, clock, clock.sleep)
    assert (found.done, found.missed) == (200, 1) and not stop.is_set()


def test_a_stopped_stream_ends() -> None:
    clock, stop = Clock(), threading.Event()
    stop.set()
    assert paced(lambda: clock.sleep(0.1), 10, 1, stop, clock, clock.sleep).done == 0


@pytest.mark.parametrize("limit_at", [0, 1, 2, 3, 5, 6, 7, 8, 11, 64, 100])
def test_largest_number_of_streams(limit_at: int) -> None:
    asked: list[int] = []

    def holds(streams: int) -> bool:
        asked.append(streams)
        return streams <= limit_at

    assert largest_that_holds(holds, 64) == min(limit_at, 64)
    assert len(asked) == len(set(asked)) and max(asked) <= 64


def test_streams_of_real_stylizers(frame: np.ndarray) -> None:
    opened: list[FakeBackend] = []

    def open_one(streams: int) -> Stylizer:
        opened.append(FakeBackend())
        return Stylizer(backend=opened[-1])

    tries = sustained_streams(open_one, frame[:8, :8], 20, seconds=0.5, most=2)
    assert [run.streams for run in tries] in ([1, 2], [1], [1, 2, 1])
    for run in tries:
        assert len(run.fps) == run.streams and all(0 < rate <= 20 for rate in run.fps)
        assert run.held == (run.missed <= 0.01)
    assert all(backend.closed for backend in opened)
    assert json.loads(json.dumps(streams_of(tries)))["held"] == max((r.streams for r in tries if r.held), default=0)


def test_streams_that_cannot_be_opened_do_not_hold(frame: np.ndarray) -> None:
    def open_one(streams: int) -> Stylizer:
        if streams > 1:
            raise DeviceError("out of memory")
        return Stylizer(backend=FakeBackend())

    tries = sustained_streams(open_one, frame[:8, :8], 2, seconds=1)
    assert [(run.streams, run.held) for run in tries] == [(1, True), (2, False)]
    assert "out of memory" in tries[1].why
    assert streams_line(tries, 2).endswith("1, the slowest at 2.0")

    def never(streams: int) -> Stylizer:
        raise DeviceError("no GPU")

    with pytest.raises(DeviceError, match="no GPU"):
        sustained_streams(never, frame, 30)


def test_an_error_in_one_stream_ends_all(frame: np.ndarray) -> None:
    class Broken(FakeBackend):
        def infer(self, frame: np.ndarray, strength: float, style: Any = None) -> np.ndarray:
            if self.frames > 5:
                raise ModelFileError("broken")
            return super().infer(frame, strength, style)

    with pytest.raises(ModelFileError, match="broken"):
        sustained_streams(lambda _: Stylizer(backend=Broken()), frame, 50, seconds=100)
