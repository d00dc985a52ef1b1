"""A live source outlives its device: errors, stalls, garbage, other sizes, a long absence, a close at any time."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from clips import ListSink
from x_server import wait_until

from stylesdk import Stylizer
from stylesdk.errors import SourceError, SourceLostError
from stylesdk.live import Counts, clock, run_pipeline, watchdog
from stylesdk.live.card import no_signal_card
from stylesdk.live.sources import SourceFrame
from stylesdk.live.watchdog import WatchedSource


def grey(value: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def value(frame: SourceFrame) -> int | None:
    """What ``grey`` was made of; None for a card."""
    return int(frame.image[0, 0, 0]) if frame.signal else None


class Life:
    """A device that does what its script says: gives an image, raises an error, hangs on an event, or calls."""

    description, size, late = "the fake", (40, 60), None

    def __init__(self, script: Iterable[object], fps: Fraction | None, pause: float) -> None:
        self.script, self.fps, self.pause = script, fps, pause
        self.closed: list[threading.Thread] = []

    def __iter__(self) -> Iterator[object]:
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                assert step.wait(60)
                continue
            yield step() if callable(step) else step
            time.sleep(self.pause)

    def close(self) -> None:
        self.closed.append(threading.current_thread())


class Fate:
    """Opens one life after the other; an exception or event among them is an opening that fails or hangs."""

    fps: Fraction | None = None
    pause = 0.01

    def __init__(self) -> None:
        self.scripts: Iterator[object] = iter(())
        self.lives: list[Life] = []
        self.events: list[threading.Event] = []
        self.openings = 0
        self.sources: list[WatchedSource] = []

    def event(self) -> threading.Event:
        self.events.append(threading.Event())
        return self.events[-1]

    def source(self, *scripts: object, give_up: float = 30.0) -> WatchedSource:
        self.scripts = iter(scripts)
        self.sources.append(WatchedSource("fake", "camera", self.open, give_up))
        return self.sources[-1]

    def open(self) -> Life:
        self.openings += 1
        script = next(self.scripts, OSError("gone"))
        if isinstance(script, Exception):
            raise script
        if isinstance(script, threading.Event):
            assert script.wait(60)
            script = ()
        assert isinstance(script, Iterable)
        self.lives.append(Life(script, self.fps, self.pause))
        return self.lives[-1]


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fate]:
    """Lives, a watchdog in a hurry, and at the end every hanging thread is woken and gone."""
    monkeypatch.setattr(watchdog, "_LATE", 0.3)
    monkeypatch.setattr(watchdog, "_CARD_EVERY", 0.02)
    monkeypatch.setattr(watchdog, "_PAUSES", (0.02, 0.1))
    one = Fate()
    yield one
    for event in one.events:
        event.set()
    for source in one.sources:
        source.close()
    for thread in threading.enumerate():
        if thread.name == "stylesdk fake":
            thread.join(20)


def until(source: Iterable[SourceFrame], enough: Callable[[list[SourceFrame]], bool]) -> list[SourceFrame]:
    seen: list[SourceFrame] = []
    for frame in source:
        seen.append(frame)
        if enough(seen):
            break
    return seen


def forever(number: int) -> Iterator[np.ndarray]:
    return (grey(number) for _ in itertools.count())


@pytest.mark.parametrize("end", [OSError("cable"), ValueError(), None])
def test_a_device_that_dies_is_opened_again(
    fate: Fate, monkeypatch: pytest.MonkeyPatch, end: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """By an error or by an end, twice; in between cards of the last size, and times that go on."""
    monkeypatch.setattr(watchdog, "_LATE", 5.0)
    dying = [grey(1), *([end] if end else [])]
    source = fate.source(dying, OSError("away"), dying, [grey(2, (20, 30))], forever(3))
    with caplog.at_level(logging.WARNING):
        seen = until(source, lambda frames: value(frames[-1]) == 3)
    values = [value(frame) for frame in seen]
    assert [key for key, _ in itertools.groupby(values)] == [1, None, 1, None, 2, None, 3]
    cards = [frame for frame in seen if not frame.signal]
    assert {card.image.shape for card in cards} == {(40, 60, 3), (20, 30, 3)}
    assert all(card.image.dtype == np.uint8 and card.image.max() > 100 for card in cards)
    assert seen[0].pts == 0
    times = [frame.pts or 0 for frame in seen]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert all((f.seconds or 0) == pytest.approx(f.captured - seen[0].captured, abs=1e-3) for f in seen)
    assert [life.closed != [] for life in fate.lives] == [True, True, True, False]
    assert "fake is lost" in caplog.text and "fake is back" in caplog.text
    assert ("cable" in caplog.text) == (str(end) == "cable")


def test_a_device_that_hangs_is_left_behind_and_never_heard_again(fate: Fate) -> None:
    hang = fate.event()
    source = fate.source([grey(1), hang, grey(99), grey(99)], forever(2))
    frames = iter(source)
    seen = until(frames, lambda frames: value(frames[-1]) == 2)
    assert [key for key, _ in itertools.groupby(map(value, seen))] == [1, None, 2]
    assert not fate.lives[0].closed
    hang.set()
    later = until(frames, lambda frames: len(frames) > 20 and bool(fate.lives[0].closed))
    assert {value(frame) for frame in later} == {2}
    # Closed by the thread that hung, as a driver may not bear another.
    assert [thread is threading.main_thread() for thread in fate.lives[0].closed] == [False]


@pytest.mark.parametrize("state", ["giving", "hanging", "opening", "away"])
def test_close_ends_the_iteration_in_every_state(fate: Fate, state: str) -> None:
    hang = fate.event()
    scripts: dict[str, tuple[object, ...]] = {
        "giving": (forever(1),),
        "hanging": ([grey(1), hang],),
        "opening": ([grey(1)], hang),
        "away": ([grey(1)],),
    }
    source = fate.source(*scripts[state], give_up=1e6)
    reached = threading.Event()

    def iterate() -> None:
        for frame in source:
            if frame.signal == (state == "giving") and fate.openings >= (2 if state == "opening" else 1):
                reached.set()

    consumer = threading.Thread(target=iterate)
    consumer.start()
    assert reached.wait(20)
    source.close()
    consumer.join(20)
    assert not consumer.is_alive()
    hung = state in ("hanging", "opening")
    assert any(thread.name == "stylesdk fake" for thread in threading.enumerate()) == hung
    assert list(source) == []
    source.close()
    hang.set()
    for thread in threading.enumerate():
        if thread.name == "stylesdk fake":
            thread.join(20)
    assert all(life.closed for life in fate.lives)


def test_garbage_is_left_out_and_counted(
    fate: Fate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    garbage = [
        None,
        "text",
        grey(9).astype(np.float32),
        grey(9)[..., 0],
        np.zeros((0, 60, 3), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
    ]
    source = fate.source([grey(1), *garbage, *[grey(2)] * 1000])
    monkeypatch.setattr(watchdog, "_LATE", 20.0)
    with caplog.at_level(logging.WARNING):
        seen = until(source, lambda frames: value(frames[-1]) == 2)
    assert {value(frame) for frame in seen} <= {1, 2}
    assert source.damaged == 5, "nothing is no damage"
    assert [r.getMessage().split(":")[1].split()[0] for r in caplog.records] == ["1", "2", "4"]


def test_nothing_but_garbage_is_lost(fate: Fate) -> None:
    source = fate.source([grey(1), *[None] * 1000], forever(2))
    seen = until(source, lambda frames: value(frames[-1]) == 2)
    assert None in map(value, seen)
    assert fate.lives[0].closed


def test_another_size_in_mid_stream_passes_through(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE", 20.0)
    first, second = fate.event(), fate.event()
    seen = []
    for frame in fate.source([grey(1), first, grey(2, (80, 20)), second, grey(3)]):
        seen.append((value(frame), frame.image.shape[:2]))
        (first if not first.is_set() else second).set()
        if len(seen) == 3:
            break
    assert seen == [(1, (40, 60)), (2, (80, 20)), (3, (40, 60))]


def test_one_that_never_comes_back_is_given_up_once(fate: Fate) -> None:
    source = fate.source([grey(1), OSError("cable")], *[OSError("no such device")] * 1000, give_up=0.5)
    seen: list[SourceFrame] = []
    with pytest.raises(SourceLostError, match=r"(?s)fake, no frame for .*no such device.*within 0\.5 s.*do this: "):
        seen.extend(source)
    assert fate.openings > 3
    source.close()
    assert list(source) == []


def test_cards_come_while_it_is_lost(fate: Fate) -> None:
    source = fate.source([grey(1)], give_up=0.5)
    seen: list[SourceFrame] = []
    with pytest.raises(SourceLostError):
        for frame in source:
            seen.append(frame)  # noqa: PERF402 - extend would lose them to the error
    assert value(seen[0]) == 1
    assert len(seen) > 3
    assert all(not frame.signal for frame in seen[1:])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SourceError("camera 5, which is not there"), r"^got: camera 5, which is not there$"),
        (RuntimeError("driver 12"), r"^got: fake, driver 12\n"),
    ],
)
def test_one_that_cannot_be_opened_at_first_is_an_error(fate: Fate, error: Exception, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        fate.source(error)


def test_one_that_hangs_while_it_is_opened_at_first_is_an_error(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_OPENING", 0.2)
    with pytest.raises(SourceError, match="fake, it did not open"):
        fate.source(fate.event())


def test_hanging_openings_do_not_pile_up(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    hang = fate.event()
    source = fate.source([grey(1)], *[hang] * 1000, give_up=2.0)
    monkeypatch.setattr(watchdog, "_OPENING", 0.05)
    most = 0
    with pytest.raises(SourceLostError, match="it did not open"):
        for _ in source:
            most = max(most, sum(thread.name == "stylesdk fake" for thread in threading.enumerate()))
    assert most == watchdog._HANGING
    assert fate.openings == 1 + watchdog._HANGING


def test_a_slow_source_is_not_lost(fate: Fate) -> None:
    """Two frames a second, later than the limit for others."""
    fate.fps, fate.pause = Fraction(2), 0.6
    seen = until(fate.source(forever(1)), lambda frames: len(frames) == 4)
    assert [value(frame) for frame in seen] == [1] * 4


def test_the_newest_frame_wins_and_the_others_are_counted(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE", 20.0)
    fate.pause = 0.002
    given = fate.event()
    source = fate.source([*(grey(number) for number in range(50)), given, grey(99)])
    wait_until(lambda: source.dropped == 49, "49 frames that nobody took")
    seen = []
    for frame in source:
        assert clock.now() - frame.captured < 60
        seen.append(value(frame))
        given.set()
        if len(seen) == 2:
            break
    assert seen == [49, 99] and source.dropped == 49


def test_a_run_counts_what_its_source_dropped(fate: Fate, stylizer: Stylizer) -> None:
    source, sink = fate.source([grey(number) for number in range(30)], give_up=0.3), ListSink()
    wait_until(lambda: source.dropped == 29, "29 frames that nobody took")
    seen: list[Counts] = []
    with pytest.raises(SourceLostError):
        run_pipeline(source, stylizer, sink, on_frame=seen.append)
    first = seen[0]
    assert first.unstyled >= 29 and first.dropped >= 29 and first.read >= 30


def test_hanging_drivers_end_the_run_for_a_fresh_one(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_OPENING", 0.05)
    monkeypatch.setattr(watchdog, "_STUCK", 0.2)
    hang = fate.event()
    source = fate.source([grey(1)], *[hang] * 1000, give_up=1e6)
    with pytest.raises(SourceLostError, match=r"(?s)fake, which hangs in its driver.*start again"):
        list(source)
    assert fate.openings == 1 + watchdog._HANGING


def test_a_device_may_say_when_it_is_late(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Life, "late", 20.0)
    fate.pause = 0.5  # more than _LATE
    seen = until(fate.source(forever(1)), lambda frames: len(frames) == 3)
    assert [value(frame) for frame in seen] == [1] * 3


def test_closed_before_it_is_iterated(fate: Fate) -> None:
    source = fate.source(forever(1))
    source.close()
    assert list(source) == []
    assert len(fate.lives[0].closed) == 1


def test_a_card_fits_any_size() -> None:
    for size in ((1, 1), (8, 300), (480, 640), (2160, 3840)):
        card = no_signal_card("camera 0", 12.3, size)
        assert (card.shape, card.dtype) == ((*size, 3), np.uint8)
        assert ((card[:, 0] == 32).all() and (card[:, -1] == 32).all()) or size == (1, 1)
