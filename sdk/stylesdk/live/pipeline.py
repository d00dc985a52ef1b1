"""Source to style to sink, with each stage working while the others work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from stylesdk.errors import SourceError
from stylesdk.frames import Frame
from stylesdk.live.sinks import Sink
from stylesdk.live.sources import Source, SourceFrame
from stylesdk.live.styling import Look, Styling
from stylesdk.live.window import StopRequested
from stylesdk.stylizer import Stylizer

T = TypeVar("T")

_DEPTH = 2  # frames between two stages: enough to overlap, few enough for little memory and a quick stop
_POLL = 0.1  # seconds between looks at the caller's stop event, which cannot wake us


@dataclass(frozen=True)
class Counts:
    """How a run went: frames read, delivered to the sink, dropped (read and never shown), and seconds."""

    read: int
    delivered: int
    dropped: int
    seconds: float

    @property
    def fps(self) -> float:
        """Delivered frames per second."""
        return self.delivered / self.seconds if self.seconds > 0 else 0.0


class _Handover(Generic[T]):
    """Items from one thread to another: bounded, or with ``newest`` the last item only."""

    def __init__(self, depth: int, *, newest: bool = False) -> None:
        self.read = 0
        self.dropped = 0
        self._items: deque[T] = deque()
        self._depth, self._newest = depth, newest
        self._ended = self._cancelled = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Hand over ``item``, waiting for room; False when nobody takes items any more."""
        with self._changed:
            if self._newest and len(self._items) == self._depth:
                self._items.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: self._cancelled or len(self._items) < self._depth)
            if self._cancelled:
                return False
            self._items.append(item)
            self.read += 1
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """No more items come; those inside are still taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """No more items are taken."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def items(self, stop: threading.Event) -> Iterator[T]:
        """Items until the end, ``cancel`` or ``stop``."""
        while not stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._cancelled, _POLL)
                if self._cancelled or (self._ended and not self._items):
                    return
                if not self._items:
                    continue
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class _Run:
    """One run: a reader thread, the style in the caller's thread, and a writer thread if the sink allows."""

    def __init__(self, source: Source, sink: Sink, stop: threading.Event) -> None:
        self.source, self.sink, self.stop = source, sink, stop
        self.delivered = 0
        self.start = time.perf_counter()
        self.raw: _Handover[SourceFrame] = _Handover(1 if source.live else _DEPTH, newest=source.live)
        self.styled: _Handover[tuple[Frame, SourceFrame]] = _Handover(_DEPTH)
        # Live frames are written at once, so that the newest one wins; windows know only one thread.
        self.threaded = not source.live and not sink.main_thread

    def counts(self) -> Counts:
        return Counts(self.raw.read, self.delivered, self.raw.dropped, time.perf_counter() - self.start)

    def read(self) -> None:
        try:
            for frame in self.source:
                if not self.raw.put(frame):
                    return
        finally:
            self.raw.end()

    def write(self) -> None:
        never = threading.Event()
        try:
            for image, frame in self.styled.items(never):
                self.deliver(image, frame)
        finally:
            self.styled.cancel()

    def deliver(self, image: Frame, frame: SourceFrame) -> bool:
        self.sink.write(image, frame)
        self.delivered += 1
        return True

    def all_frames(self, style: Callable[[SourceFrame], Frame], on_frame: Callable[[Counts], None] | None) -> None:
        """Run to the end or to the stop; the first error of any thread is raised, after all have ended."""
        pool = ThreadPoolExecutor(2, thread_name_prefix="stylesdk")
        threads: list[Future[None]] = []
        try:
            threads.append(pool.submit(self.read))
            if self.threaded:
                threads.append(pool.submit(self.write))
            for frame in self.raw.items(self.stop):
                image = style(frame)
                if not (self.styled.put((image, frame)) if self.threaded else self.deliver(image, frame)):
                    break
                if on_frame is not None:
                    on_frame(self.counts())
        finally:
            # The reader stops at its next frame, the writer after the frames that are styled already.
            self.raw.cancel()
            self.styled.end()
            try:
                pool.shutdown()
            finally:
                # Again, as a Ctrl-C may cut the wait short: no writer may work in a sink that closes.
                pool.shutdown()
        for thread in threads:
            thread.result()


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
    and counts the others as dropped. ``on_frame`` is called in this thread after each styled frame.

    Args:
        source: opened by ``open_source``.
        stylizer: stays open, and the caller's.
        sink: opened by ``open_sink``; finished when the run ends or is stopped, discarded on an error.
        look: how frames are styled; it may be changed while they are. None is the full style and nothing else.
        on_frame: progress; in file mode ``delivered`` is up to three frames behind.
        stop: set it to stop early; what was styled until then is kept.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the sink was finished and the source closed.
        SourceError, SinkError, FrameError, StyleError: the first error of any stage, once, after all threads ended.
    """
    run = _Run(source, sink, stop or threading.Event())
    try:
        run.all_frames(Styling(stylizer, look or Look()).run, on_frame)
    except (KeyboardInterrupt, StopRequested) as reason:
        sink.close(complete=False)
        if isinstance(reason, KeyboardInterrupt):
            raise
    except SourceError:
        # A camera that is pulled out must not take the recording with it.
        if source.live:
            sink.close(complete=False)
        else:
            sink.abort()
        raise
    except BaseException:
        sink.abort()
        raise
    else:
        sink.close(complete=not run.stop.is_set())
    finally:
        source.close()
    counts = run.counts()
    return Counts(counts.read, counts.delivered, counts.read - counts.delivered, counts.seconds)
