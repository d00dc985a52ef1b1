"""Items from one thread to another: bounded, in order, or the newest only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

POLL = 0.1  # seconds between looks at the caller's stop event, which cannot wake us


class Handover(Generic[T]):
    """A queue of ``depth`` items that waits for room, or with ``newest`` drops the oldest item for a new one.

    ``count`` is how many were put, ``dropped`` how many of them gave way to a newer one.
    """

    def __init__(self, depth: int, *, newest: bool = False) -> None:
        self.count = 0
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
            self.count += 1
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """No more items come; those inside are still taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """No more items are taken; those inside are forgotten."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def items(self, stop: threading.Event, idle: Callable[[], None] | None = None) -> Iterator[T]:
        """Items until the end, ``cancel`` or ``stop``; ``idle`` is called again and again while none comes."""
        while not stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._cancelled, POLL)
                if self._cancelled or (self._ended and not self._items):
                    return
                item = self._items.popleft() if self._items else None
                self._changed.notify_all()
            if item is not None:
                yield item
            elif idle is not None:
                idle()
