"""Order, back-pressure, newest frame wins, and every way to end: nothing hangs, nothing is left over."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from clips import ListSink, ListSource, make_clip, read_clip

from stylesdk import Stylizer
from stylesdk.errors import FrameError, SinkError, SourceError
from stylesdk.live import Counts, Look, open_sink, open_source, run_pipeline

pytestmark = pytest.mark.timeout(20)


def failing_at(index: int, error: BaseException) -> object:
    def check(now: int) -> None:
        if now == index:
            raise error

    return check


def test_every_frame_in_order(stylizer: Stylizer) -> None:
    source, sink = ListSource(40), ListSink()
    progress: list[Counts] = []
    counts = run_pipeline(source, stylizer, sink, on_frame=progress.append)
    assert sink.seen == [(i, 255 - i) for i in range(40)]
    assert (counts.read, counts.delivered, counts.dropped) == (40, 40, 0)
    assert (sink.ended, source.closed, len(progress)) == (["complete"], 1, 40)
    assert all(a.delivered <= b.delivered for a, b in pairwise(progress))
    assert counts.fps == pytest.approx(40 / counts.seconds)
    assert threading.current_thread().name not in sink.threads


def test_strength_reaches_the_style(stylizer: Stylizer) -> None:
    sink = ListSink()
    run_pipeline(ListSource(2), stylizer, sink, look=Look(strength=0.0))
    assert sink.seen == [(0, 0), (1, 1)]


def test_slow_sink_holds_a_file_back(stylizer: Stylizer) -> None:
    source, sink, ahead = ListSource(20), ListSink(), []
    sink.before = lambda count: time.sleep(0.01)
    source.before = lambda index: ahead.append(index - len(sink.seen))
    run_pipeline(source, stylizer, sink)
    # two raw, two styled, and one in the hands of each of the three stages
    assert max(ahead) <= 7


def test_slow_live_consumer_gets_the_newest_frame(stylizer: Stylizer) -> None:
    source, sink, late = ListSource(60, live=True), ListSink(), []
    newest = [0]

    def produce(index: int) -> None:
        newest[0] = index
        time.sleep(0.005)

    def consume(count: int) -> None:
        time.sleep(0.04)

    source.before, sink.before = produce, consume
    counts = run_pipeline(source, stylizer, sink, on_frame=lambda c: late.append(newest[0] - sink.seen[-1][0]))
    assert counts.dropped > 30
    assert (counts.read, counts.read - counts.delivered) == (60, counts.dropped)
    shown = [pts for pts, _ in sink.seen]
    assert shown == sorted(set(shown))
    assert shown[-1] == 59
    # A queue would let the delay grow to fifty frames; a slot bounds it by the time of one.
    assert max(late) <= 30
    assert sink.threads == {"stylesdk-deliver"}


@pytest.mark.parametrize("live", [False, True])
def test_stop_event_finishes_what_was_styled(stylizer: Stylizer, live: bool) -> None:
    stop, source, sink = threading.Event(), ListSource(10_000, live=live), ListSink()
    source.before = lambda index: time.sleep(0.002)

    def check(counts: Counts) -> None:
        if counts.read >= 20:
            stop.set()

    counts = run_pipeline(source, stylizer, sink, on_frame=check, stop=stop)
    assert (sink.ended, source.closed) == (["cut"], 1)
    assert 0 < counts.delivered == len(sink.seen) <= counts.read < 60
    assert counts.dropped == counts.read - counts.delivered


def test_stop_while_the_source_is_silent(stylizer: Stylizer) -> None:
    stop, source, sink = threading.Event(), ListSource(5, live=True), ListSink()
    source.before = lambda index: stop.wait(10) if index == 2 else None
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    start = time.monotonic()
    run_pipeline(source, stylizer, sink, stop=stop)
    timer.join()
    assert time.monotonic() - start < 2
    assert sink.ended == ["cut"]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("index", [0, 7])
def test_source_that_fails(stylizer: Stylizer, live: bool, index: int) -> None:
    source, sink = ListSource(20, live=live), ListSink()
    error = SourceError("broken")
    source.before = failing_at(index, error)  # type: ignore[assignment]
    with pytest.raises(SourceError) as caught:
        run_pipeline(source, stylizer, sink)
    assert caught.value is error
    # A camera that is pulled out does not take the recording with it.
    assert (sink.ended, source.closed) == (["cut" if live else "aborted"], 1)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("index", [0, 7])
def test_sink_that_fails(stylizer: Stylizer, live: bool, index: int) -> None:
    source, sink = ListSource(2000, live=live), ListSink()
    source.before = lambda index: time.sleep(0.001)
    error = SinkError("disk full")
    sink.before = failing_at(index, error)  # type: ignore[assignment]
    with pytest.raises(SinkError) as caught:
        run_pipeline(source, stylizer, sink)
    assert caught.value is error
    assert (sink.ended, source.closed, len(sink.seen)) == (["aborted"], 1, index)


def test_style_that_fails(stylizer: Stylizer) -> None:
    source, sink = ListSource(50), ListSink()
    with pytest.raises(FrameError):
        run_pipeline(source, stylizer, sink, look=Look(strength=3.0))
    assert (sink.ended, source.closed) == (["aborted"], 1)


def test_source_and_sink_that_fail_together_raise_one_error(stylizer: Stylizer) -> None:
    source, sink = ListSource(50), ListSink()
    source.before = failing_at(5, SourceError("first"))  # type: ignore[assignment]
    sink.before = failing_at(3, SinkError("second"))  # type: ignore[assignment]
    with pytest.raises((SourceError, SinkError)):
        run_pipeline(source, stylizer, sink)
    assert sink.ended == ["aborted"]


def test_video_that_is_stopped_is_playable(tmp_path: Path, stylizer: Stylizer) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=range(250), base=Fraction(1, 25), last=1, sound="aac")
    stop, source = threading.Event(), open_source(str(clip))
    output = open_sink(str(tmp_path / "out.mp4"), source)
    counts = run_pipeline(
        source, stylizer, output, stop=stop, on_frame=lambda c: stop.set() if c.delivered >= 40 else None
    )
    after = read_clip(tmp_path / "out.mp4")
    assert 40 <= len(after.times) == counts.delivered < 60
    assert after.duration == pytest.approx(counts.delivered / 25, abs=0.001)
    assert after.sound_seconds == pytest.approx(after.duration, abs=0.06)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_video_whose_source_fails_leaves_nothing(tmp_path: Path, stylizer: Stylizer) -> None:
    source = ListSource(100)
    source.before = failing_at(60, SourceError("broken"))  # type: ignore[assignment]
    with pytest.raises(SourceError):
        run_pipeline(source, stylizer, open_sink(str(tmp_path / "out.mp4"), source))
    assert list(tmp_path.iterdir()) == []


_INTERRUPTED = """
import sys, threading, time
from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.live import open_sink, open_source, run_pipeline

def slow(counts):
    time.sleep(0.01)
    if counts.delivered == 10:
        print("running", flush=True)

source = open_source(sys.argv[1])
sink = open_sink(sys.argv[2], source)
try:
    run_pipeline(source, Stylizer(backend=FakeBackend()), sink, on_frame=slow)
except KeyboardInterrupt:
    print("threads", threading.active_count())
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to a process")
def test_ctrl_c_leaves_a_playable_file(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=range(250), base=Fraction(1, 25), last=1, sound="aac")
    command = [sys.executable, "-c", _INTERRUPTED, str(clip), str(tmp_path / "out.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, "threads 1\n", "")
    after = read_clip(tmp_path / "out.mp4")
    assert 10 <= len(after.times) < 200
    assert after.sound_seconds == pytest.approx(after.duration, abs=0.06)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
