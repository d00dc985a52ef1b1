"""Source to style to sink, with each stage working while the others work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

from stylesdk.errors import SinkError
from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.handover import POLL, Handover
from stylesdk.live.progress import STAGES, Counts, Timing
from stylesdk.live.sinks import Sink
from stylesdk.live.sources import Source, SourceFrame
from stylesdk.live.styling import Look, Styling
from stylesdk.live.window import StopRequested
from stylesdk.stylizer import Stylizer

T = TypeVar("T")

_DEPTH = 2  # frames between two stages: enough to overlap, few enough for little memory and a quick stop
# Seconds that a stage may stay in one call after the stop, until it counts as hung. A large frame on a slow machine
# takes long to style, and a slow disk or share to write.
_PATIENCE = {"capture": 5.0, "style": 60.0, "deliver": 20.0}

_log = logging.getLogger(__name__)


@runtime_checkable
class Watching(Protocol):
    """What a sink may offer beside ``Sink``, to show how the run goes and to look after its user."""

    def watch(self, counts: Callable[[], Counts], stylizer: Stylizer, stop: threading.Event) -> None:
        """Called once, before the first frame. ``counts`` may be called at any time; ``stop`` ends whatever waits."""

    def idle(self) -> None:
        """Called some times a second while no frame comes, by the thread that delivers. Raises as ``write``."""


class _Run:
    """One run: a thread for each stage; that of a ``main_thread`` sink is the caller's.

    A live source's newest frame wins between any two stages, so nothing old waits for a slow one: styling goes on
    at the source's rate while the sink works, and the sink gets the frame that was styled last.
    """

    def __init__(
        self,
        source: Source,
        styling: Styling,
        sink: Sink,
        on_frame: Callable[[Counts], None] | None,
        stop: threading.Event,
    ) -> None:
        self.source, self.sink, self.stop = source, sink, stop
        self.error: BaseException | None = None
        self.abandoned: set[str] = set()
        self._styling, self._on_frame = styling, on_frame
        self._closed = False
        self._delivered = self._cards = 0
        self._start = clock.now()
        depth, live = 1 if source.live else _DEPTH, source.live
        self._raw: Handover[SourceFrame] = Handover(depth, newest=live)
        self._styled: Handover[tuple[Frame, SourceFrame]] = Handover(depth, newest=live)
        self._stages = {stage: Timing() for stage in STAGES}
        self._inside: dict[str, float] = {}  # stage -> since when it has been in a call that is not ours
        self._ended: set[str] = set()
        self._changed = threading.Condition()  # an end, an error; joining a thread would not survive Ctrl-C

    def counts(self) -> Counts:
        seconds = clock.now() - self._start
        untaken = getattr(self.source, "dropped", 0)  # a camera may be faster than we take frames
        unstyled, unshown = untaken + self._raw.dropped, self._styled.dropped
        read = untaken + self._raw.count
        return Counts(read, self._delivered, unstyled + unshown, seconds, unstyled, unshown, self._cards, self._stages)

    def all_frames(self) -> None:
        """Run to the end or to the stop; the first error of any thread is raised, after all have ended."""
        stages = {"capture": self._capture, "style": self._style, "deliver": self._deliver}
        here = stages.pop("deliver") if self.sink.main_thread else None
        threads = {
            stage: threading.Thread(target=self._guarded, args=(stage, work), name=f"stylesdk-{stage}", daemon=True)
            for stage, work in stages.items()
        }
        for thread in threads.values():
            thread.start()
        try:
            if here is not None:
                self._guarded("deliver", here)
            while "deliver" not in self._ended and not self.stop.is_set():
                self._wait_for({"deliver"})
        except KeyboardInterrupt as error:
            self._fail(error)
        self._finish()
        for stage in threads.keys() - self.abandoned:
            threads[stage].join()
        if self.error is not None:
            raise self.error

    def close_source(self) -> None:
        """Close the source, once."""
        if not self._closed:
            self._closed = True
            self.source.close()

    def end_sink(self, *, keep: bool, complete: bool = False) -> None:
        """Close or abort the sink, unless its own thread is still in it: that would pull it away under its feet."""
        if "deliver" not in self.abandoned:
            if keep:
                self.sink.close(complete=complete)
            else:
                self.sink.abort()
        elif keep:
            raise SinkError(
                f"{self.sink.name}, which hangs in a write",
                expected="an output that takes frames",
                do="check the disk, the share or the receiver; what was written so far was not finished",
            )

    def _capture(self) -> None:
        frames = iter(self.source)
        while True:
            frame, seconds = self._timed("capture", lambda: next(frames, None))
            if frame is None or not self._raw.put(frame):
                return
            if frame.signal:
                self._stages["capture"].add(seconds)

    def _style(self) -> None:
        for frame in self._raw.items(self.stop):
            image, seconds = self._timed("style", partial(self._styling.run, frame))
            if frame.signal:
                self._stages["style"].add(seconds)
            if not self._styled.put((image, frame)):
                return

    def _deliver(self) -> None:
        # A file keeps what was styled before the stop.
        stop = self.stop if self.source.live or self.sink.main_thread else threading.Event()
        idle = self.sink.idle if isinstance(self.sink, Watching) else None
        for image, frame in self._styled.items(stop, idle):
            _, seconds = self._timed("deliver", partial(self.sink.write, image, frame))
            self._delivered += 1
            self._cards += not frame.signal
            if frame.signal:
                self._stages["deliver"].add(seconds)
                self._stages["age"].add(clock.now() - frame.captured)
            if self._on_frame is not None:
                self._on_frame(self.counts())

    def _timed(self, stage: str, call: Callable[[], T]) -> tuple[T, float]:
        start = self._inside[stage] = clock.now()
        try:
            return call(), clock.now() - start
        finally:
            del self._inside[stage]

    def _guarded(self, stage: str, work: Callable[[], None]) -> None:
        """A stage from beginning to end, whatever happens: its neighbours end with it."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._fail(error)
        finally:
            if stage != "deliver":
                (self._raw if stage == "capture" else self._styled).end()
            if stage != "capture":
                (self._raw if stage == "style" else self._styled).cancel()
            with self._changed:
                self._ended.add(stage)
                late = stage in self.abandoned
                self._changed.notify_all()
            if late and stage != "style":
                (self.close_source if stage == "capture" else self.sink.abort)()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error

    def _finish(self) -> None:
        """Wait for all stages, whatever Ctrl-C does: none may work in a source or sink that closes."""
        began = clock.now()
        if self.source.live:
            self.close_source()  # wakes who waits for its next frame
        while True:
            try:
                return self._wait_or_abandon(began)
            except KeyboardInterrupt as error:
                self._fail(error)

    def _wait_or_abandon(self, began: float) -> None:
        self._raw.cancel()
        if self.sink.main_thread:
            self._styled.cancel()  # its thread is this one: nobody delivers any more
            self._ended.add("deliver")
        while alive := _PATIENCE.keys() - self._ended:
            now, inside = clock.now(), self._inside.copy()
            hung = {stage for stage in alive if now - max(began, inside.get(stage, now)) > _PATIENCE[stage]}
            if hung:
                self._styled.cancel()  # lets go who waits for them
            if hung == alive:
                self._abandon(hung)
                return
            self._wait_for(alive - hung)

    def _wait_for(self, stages: set[str]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: stages <= self._ended, POLL)

    def _abandon(self, hung: set[str]) -> None:
        for stage in sorted(hung):
            with self._changed:
                if stage in self._ended:
                    continue
                self.abandoned.add(stage)
            what = {"capture": self.source.name, "style": "the style", "deliver": self.sink.name}[stage]
            _log.warning("thread stylesdk-%s hangs in %s, and is left behind", stage, what)


def run_pipeline(
    source: Source,
    stylizer: Stylizer,
    sink: Sink,
    *,
    look: Look | None = None,
    on_frame: Callable[[Counts], None] | None = None,
    stop: threading.Event | None = None,
) -> Counts:
    """Style every frame of ``source`` into ``sink``; both are closed afterwards, whatever happens.

    A file gives every frame, in order, and waits for the slowest stage. A live source gives its newest frame
    and counts the others as dropped. Frames without a signal pass as they are. Source, style and sink have a
    thread each; a ``main_thread`` sink has this one. A sink with ``watch`` and ``idle`` is told how the run goes.

    Args:
        source: opened by ``open_source``.
        stylizer: stays open, and the caller's.
        sink: opened by ``open_sink``; finished when the run ends or is stopped, discarded on an error.
        look: how frames are styled; it may be changed while they are. None is the full style and nothing else.
        on_frame: progress; called after each delivered frame, by the thread that delivers.
        stop: set it to stop early; what was styled until then is kept. A stage that hangs in a call for long
            after the stop (5 seconds in the source, 60 in the style, 20 in the sink) is named in a warning and left
            behind.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the sink was finished and the source closed.
        SourceError, SinkError, FrameError, StyleError: the first error of any stage, once, after all threads ended;
            also SinkError where a sink hangs, and so cannot be finished.
    """
    run = _Run(source, Styling(stylizer, look or Look()), sink, on_frame, stop or threading.Event())
    if isinstance(sink, Watching):
        sink.watch(run.counts, stylizer, run.stop)
    try:
        run.all_frames()
    except (KeyboardInterrupt, StopRequested) as reason:
        run.end_sink(keep=True)
        if isinstance(reason, KeyboardInterrupt):
            raise
    except BaseException as error:
        # A camera that is pulled out, or a style that fails, must not take the recording with it.
        run.end_sink(keep=source.live and not isinstance(error, SinkError))
        raise
    else:
        run.end_sink(keep=True, complete=not run.stop.is_set())
    finally:
        if "capture" not in run.abandoned:
            run.close_source()
    counts = run.counts()
    return replace(counts, dropped=counts.read - counts.delivered)
