"""Live: how old a frame is when it is shown, where frames are dropped, cards, and stages that hang."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import ListSink, ListSource, read_clip

from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.errors import SinkError, SourceError, SourceLostError
from stylesdk.frames import Frame
from stylesdk.live import Counts, Look, clock, open_sink, run_pipeline
from stylesdk.live.pattern import pattern_from_text
from stylesdk.live.sources import SourceFrame
from stylesdk.live.stamp import read_stamp

pytestmark = pytest.mark.timeout(60)


class StampSink(ListSink):
    """Reads which frame it was given from the pixels; each takes it ``seconds``."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.ages: list[float] = []
        self.seconds = seconds

    def write(self, image: Frame, frame: SourceFrame) -> None:
        stamp = read_stamp(image)
        assert stamp is not None and stamp.index == frame.pts
        self.ages.append(clock.now() - stamp.seconds)
        self.numbers.append(stamp.index)
        time.sleep(self.seconds)


class Slow(FakeBackend):
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def infer(self, frame: Frame, strength: float, style: object = None) -> Frame:
        time.sleep(self.seconds)
        return super().infer(frame, strength)


def test_sink_ten_times_slower_gets_the_frame_that_was_styled_last() -> None:
    sink = StampSink(0.5)
    with Stylizer(backend=Slow(0.02)) as stylizer:
        counts = run_pipeline(pattern_from_text("test:160x120:60@20"), stylizer, sink)
    # Without a bound of one frame, its age when it is handed over would grow by 0.45 s each time.
    # Two frame times are 0.1 s; the rest is for a machine that has other work.
    assert max(sink.ages) < 0.1 + 0.6
    assert sink.numbers[-1] == 59 and counts.stages["age"].count == len(sink.numbers)
    assert counts.stages["age"].recent.p50 >= 500, "an age ends with the delivery"
    assert (counts.read, counts.unstyled + counts.unshown) == (60, counts.dropped) and counts.unshown > 40
    assert counts.limit == "output"


def test_slow_style_drops_before_the_style() -> None:
    sink = StampSink()
    with Stylizer(backend=Slow(0.2)) as stylizer:
        counts = run_pipeline(pattern_from_text("test:160x120:60@40"), stylizer, sink)
    assert counts.unstyled > 30 and counts.unshown == 0
    assert counts.limit == "style" and counts.stages["style"].recent.p50 >= 200
    assert sink.numbers == sorted(set(sink.numbers)) and sink.numbers[-1] == 59


def test_fast_style_is_limited_by_the_camera(stylizer: Stylizer) -> None:
    counts = run_pipeline(pattern_from_text("test:160x120:20@10"), stylizer, StampSink())
    assert (counts.delivered, counts.dropped, counts.limit) == (20, 0, "camera")
    assert counts.stages["capture"].run.p50 == pytest.approx(100, rel=0.3)


def test_three_stages_work_at_the_same_time() -> None:
    """20 frames of 50 ms in each of three stages: one after the other they take 3 s."""
    source, sink = ListSource(20), ListSink()
    source.before = sink.before = lambda _: time.sleep(0.05)
    with Stylizer(backend=Slow(0.05)) as stylizer:
        counts = run_pipeline(source, stylizer, sink)
    assert counts.delivered == 20 and counts.seconds < 2.2
    names = {name: timing.count for name, timing in counts.stages.items()}
    assert names == {"capture": 20, "style": 20, "deliver": 20, "age": 20}


def test_sink_of_the_callers_thread_is_not_waited_for_by_the_style() -> None:
    class Here(StampSink):
        main_thread = True

        def write(self, image: Frame, frame: SourceFrame) -> None:
            self.threads.add(threading.current_thread().name)
            super().write(image, frame)

    sink, backend = Here(0.5), Slow(0.0)
    with Stylizer(backend=backend) as stylizer:
        counts = run_pipeline(pattern_from_text("test:160x120:30@20"), stylizer, sink)
    assert sink.threads == {threading.current_thread().name}
    assert counts.unshown > 10 and backend.frames > 15
    assert max(sink.ages) < 0.4


# Cards


class Losing(ListSource):
    """Every fifth frame is a card."""

    def __iter__(self) -> Iterator[SourceFrame]:
        for frame in super().__iter__():
            yield replace(frame, signal=frame.pts % 5 != 4)  # type: ignore[operator]


def test_cards_are_shown_as_they_are_and_are_in_no_figure(stylizer: Stylizer) -> None:
    sink = ListSink()
    counts = run_pipeline(Losing(20), stylizer, sink, look=Look(smoothing=1.0))
    assert [value == pts for pts, value in sink.seen] == [pts % 5 == 4 for pts in range(20)]
    assert (counts.delivered, counts.cards) == (20, 4)
    assert {timing.count for timing in counts.stages.values()} == {16}


def test_lost_source_finishes_the_recording(tmp_path: Path, stylizer: Stylizer) -> None:
    source = ListSource(40, live=True)

    def lose(index: int) -> None:
        time.sleep(0.01)
        if index == 20:
            raise SourceLostError("gone")

    source.before = lose
    output = tmp_path / "out.mp4"
    with pytest.raises(SourceLostError):
        run_pipeline(source, stylizer, open_sink(str(output), source))
    clip = read_clip(output)
    assert 5 <= len(clip.times) <= 20 and [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_recording_of_what_is_live_keeps_its_times(tmp_path: Path) -> None:
    """A style that takes five frames' time: the file has the gaps, and its whole length."""
    source = pattern_from_text("test:160x120:50@25")
    with Stylizer(backend=Slow(0.2)) as stylizer:
        counts = run_pipeline(source, stylizer, open_sink(str(tmp_path / "out.mp4"), source))
    clip = read_clip(tmp_path / "out.mp4")
    assert len(clip.times) == counts.delivered < 30
    assert [round(25 * t) / 25 for t in clip.times] == pytest.approx(clip.times, abs=1e-3)
    assert clip.times[-1] == pytest.approx(49 / 25, abs=1e-3)


# Errors and stops


def test_error_of_on_frame_reaches_the_caller(stylizer: Stylizer) -> None:
    error, sink, source = ValueError("mine"), ListSink(), ListSource(100, live=True)
    source.before = lambda _: time.sleep(0.001)

    def fail(counts: Counts) -> None:
        if counts.delivered == 3:
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        run_pipeline(source, stylizer, sink, on_frame=fail)
    # What a live sink has until then cannot be had again.
    assert caught.value is error and sink.ended == ["cut"] and len(sink.seen) == 3


@pytest.mark.parametrize("live", [False, True])
def test_stop_while_the_style_is_busy(live: bool) -> None:
    stop, sink = threading.Event(), ListSink()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    with Stylizer(backend=Slow(0.6)) as stylizer:
        start = time.monotonic()
        run_pipeline(ListSource(1000, live=live), stylizer, sink, stop=stop)
        assert time.monotonic() - start < 4
    timer.join()
    assert sink.ended == ["cut"]


class Hanging:
    """Something that does not come back until the test lets it."""

    def __init__(self) -> None:
        self.inside, self.released = threading.Event(), threading.Event()

    def __call__(self, index: int) -> None:
        if index == 3:
            self.inside.set()
            self.released.wait(30)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = {"capture": 0.3, "style": 0.4, "deliver": 0.5}
    monkeypatch.setattr("stylesdk.live.pipeline._PATIENCE", patience)


def stopped_when(hanging: Hanging) -> threading.Event:
    stop = threading.Event()

    def wait() -> None:
        hanging.inside.wait(30)
        stop.set()

    threading.Thread(target=wait, name="stopper").start()
    return stop


def let_go(hanging: Hanging) -> None:
    hanging.released.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name.startswith(("stylesdk-", "stopper")):
            thread.join(10)


@pytest.mark.parametrize("live", [False, True])
def test_source_that_hangs_is_named_and_left_behind(
    stylizer: Stylizer, impatient: None, live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hanging, source, sink = Hanging(), ListSource(10, live=live), ListSink()
    source.before = hanging
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        run_pipeline(source, stylizer, sink, stop=stopped_when(hanging))
    assert time.monotonic() - start < 10
    assert "thread stylesdk-capture hangs in list, and is left behind" in caplog.text
    # A file is not closed while its thread is in it; by that thread when it comes back.
    assert (sink.ended, source.closed) == (["cut"], int(live))
    let_go(hanging)
    assert source.closed == 1


@pytest.mark.parametrize("live", [False, True])
def test_sink_that_hangs_is_an_error_and_is_aborted_when_it_comes_back(
    stylizer: Stylizer, impatient: None, live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hanging, source, sink = Hanging(), ListSource(10_000, live=live), ListSink()
    source.before = lambda _: time.sleep(0.001)
    sink.before = hanging
    with caplog.at_level(logging.WARNING), pytest.raises(SinkError, match="list, which hangs in a write"):
        run_pipeline(source, stylizer, sink, stop=stopped_when(hanging))
    assert "stylesdk-deliver" in caplog.text and "stylesdk-capture" not in caplog.text
    assert (sink.ended, source.closed) == ([], 1)
    let_go(hanging)
    assert sink.ended == ["aborted"]


def test_style_that_hangs_is_left_behind(impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    hanging = Hanging()

    class Stuck(FakeBackend):
        def infer(self, frame: Frame, strength: float, style: object = None) -> Frame:
            hanging(self.frames)
            return super().infer(frame, strength)

    sink = ListSink()
    source = ListSource(10_000, live=True)
    source.before = lambda _: time.sleep(0.001)
    with Stylizer(backend=Stuck()) as stylizer, caplog.at_level(logging.WARNING):
        run_pipeline(source, stylizer, sink, stop=stopped_when(hanging))
        assert "stylesdk-style" in caplog.text and sink.ended == ["cut"]
        let_go(hanging)


def test_source_that_fails_while_the_sink_is_busy_keeps_what_was_styled(stylizer: Stylizer) -> None:
    source, sink = ListSource(10), ListSink()
    sink.before = lambda _: time.sleep(0.05)

    def fail(index: int) -> None:
        if index == 4:
            raise SourceError("broken")

    source.before = fail
    with pytest.raises(SourceError):
        run_pipeline(source, stylizer, sink)
    assert [pts for pts, _ in sink.seen] == [0, 1, 2, 3]


def test_counts_may_be_asked_at_any_time(stylizer: Stylizer) -> None:
    class Watched(ListSink):
        seen_counts: list[Counts]

        def watch(self, counts: object, stylizer: Stylizer, stop: threading.Event) -> None:
            self.counts, self.backend, self.seen_counts, self.idled = counts, stylizer.backend, [], 0

        def idle(self) -> None:
            self.idled += 1

        def write(self, image: Frame, frame: SourceFrame) -> None:
            super().write(image, frame)
            self.seen_counts.append(self.counts())  # type: ignore[operator]

    sink, source = Watched(), ListSource(5, live=True)
    source.before = lambda index: time.sleep(0.3)
    run_pipeline(source, stylizer, sink)
    assert sink.backend == "fake" and sink.idled >= 5
    assert [c.delivered for c in sink.seen_counts] == list(range(5))
    assert sink.seen_counts[-1].stages["age"].recent.count == 5, "it goes on with the run"


def test_frame_of_another_size_in_mid_stream(stylizer: Stylizer) -> None:
    class Changing(ListSource):
        def __iter__(self) -> Iterator[SourceFrame]:
            for index, size in enumerate([(32, 48), (50, 61), (32, 48)]):
                yield SourceFrame(np.full((*size, 3), 100, np.uint8), "", index, Fraction(1, 25), 1)

    shapes: list[tuple[int, ...]] = []

    class Shapes(ListSink):
        def write(self, image: Frame, frame: SourceFrame) -> None:
            assert (image == 155).all()
            shapes.append(image.shape)

    run_pipeline(Changing(3), stylizer, Shapes(), look=Look(smoothing=1.0))
    assert shapes == [(32, 48, 3), (50, 61, 3), (32, 48, 3)]
