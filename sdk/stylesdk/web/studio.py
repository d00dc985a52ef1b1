"""One Stylizer for several clients: a thread of its own styles the newest frame of each in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.sources import SourceFrame
from stylesdk.live.styling import Look, Styling
from stylesdk.stylizer import Stylizer
from stylesdk.web.limits import FULL, IDLE, Refusal
from stylesdk.web.messages import Figures

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Styled:
    """A styled frame: the number its client gave it, what came in, BGR uint8 (H, W, 3) of the same size."""

    number: int
    frame: SourceFrame
    image: Frame


class Seat:
    """The place of one client: its look, its figures, and its newest frame."""

    def __init__(self, stylizer: Stylizer, look: Look, on_styled: Callable[[Styled | Exception], None]) -> None:
        self.look = look
        self.figures = Figures(clock.now())
        self.styling = Styling(stylizer, self.look)
        self.on_styled = on_styled
        self.waiting: tuple[int, SourceFrame] | None = None
        self.heard = time.monotonic()  # when its last frame came


class Studio:
    """Runs a Stylizer, which belongs to its thread until ``close``.

    Args:
        stylizer: the caller closes it, after the studio.
        places: clients at a time.
        silent: seconds after which a client that sends nothing gives way to a newcomer, where all places are taken.
        look: what every client begins with.
    """

    def __init__(self, stylizer: Stylizer, places: int, silent: float, look: Look) -> None:
        self.places = places
        self.frames = 0
        self._silent = silent
        self._look = look
        self._stylizer = stylizer
        self._seats: deque[Seat] = deque()  # whose turn is next stands first
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="stylesdk-studio", daemon=True)
        self._thread.start()

    @property
    def backend(self) -> str:
        """What really runs."""
        return self._stylizer.backend

    @property
    def clients(self) -> int:
        """Places taken."""
        return len(self._seats)

    def enter(self, on_styled: Callable[[Styled | Exception], None]) -> Seat:
        """Take a place.

        Args:
            on_styled: called from any thread, with each result, what went wrong, or a Refusal when the place is lost.

        Raises:
            Refusal: all places are taken.
        """
        with self._changed:
            if len(self._seats) >= self.places and not self._give_way():
                got = f"all {self.places} places taken"
                raise Refusal(FULL, got, "a free place", "try again later, or start `stylesdk serve --clients N`")
            seat = Seat(self._stylizer, replace(self._look), on_styled)
            self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give the place back; a frame that is being styled is still handed over."""
        with self._changed:
            if seat in self._seats:
                self._seats.remove(seat)

    def _give_way(self) -> bool:
        """Free the place of a client that has been silent for too long: one that is gone without a word, mostly."""
        seat = min(self._seats, key=lambda seat: seat.heard)
        if time.monotonic() - seat.heard <= self._silent:
            return False
        self._seats.remove(seat)
        seat.on_styled(Refusal(IDLE, f"no frame for {self._silent:.0f} s, and someone else waits", "frames"))
        return True

    def put(self, seat: Seat, number: int, frame: SourceFrame) -> None:
        """Hand over a frame; one that still waits for its turn is dropped for it."""
        with self._changed:
            seat.figures.dropped += seat.waiting is not None
            seat.waiting = (number, frame)
            seat.heard = time.monotonic()
            self._changed.notify()

    def close(self) -> None:
        """End the thread, after the frame that it has."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while turn := self._next():
            seat, number, frame = turn
            start = time.perf_counter()
            try:
                image = seat.styling.run(frame)
            except Exception as error:  # noqa: BLE001 - of one frame: its client is told, the others go on
                _log.exception("a frame could not be styled")
                seat.on_styled(error)
                continue
            self.frames += 1
            seat.figures.styled(time.perf_counter() - start)
            seat.on_styled(Styled(number, frame, image))

    def _next(self) -> tuple[Seat, int, SourceFrame] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(seat.waiting for seat in self._seats))
            if self._closed:
                return None
            seat = next(seat for seat in self._seats if seat.waiting)
            self._seats.remove(seat)
            self._seats.append(seat)  # its next turn comes after everyone else's
            assert seat.waiting is not None
            (number, frame), seat.waiting = seat.waiting, None
        return seat, number, frame
