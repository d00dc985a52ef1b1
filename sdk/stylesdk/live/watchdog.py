"""What is live may die, stall or vanish: a thread that may hang reads it, and a watchdog opens it again."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np

from stylesdk.errors import SourceError, SourceLostError, StyleSDKError
from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.card import no_signal_card
from stylesdk.live.sources import Kind, SourceFrame

_log = logging.getLogger(__name__)
_MICROSECOND = Fraction(1, 1_000_000)
_OPENING = 60.0 if sys.platform == "win32" else 20.0  # seconds that opening may take: some camera drivers need many
_FIRST = 12.0  # seconds from there to the first frame: many streams send a whole picture every ten
_LATE = 1.5  # seconds without a frame that count as lost, or
_LATE_FRAMES = 4  # as many frame times, if that is longer
_CARD_EVERY = 0.25  # seconds between "no signal" cards
_PAUSES = (0.25, 4.0)  # shortest and longest seconds before it is opened again; between them a 60th of the absence
_WELL = 5.0  # seconds of frames that end an absence: one that comes and goes is not asked four times a second
_HANGING = 3  # readers that may hang at a time: more would only pile up
_STUCK = 60.0  # seconds that all of them may hang: some drivers come back after many
_JOIN = 0.4  # seconds that close waits for threads that do not hang


class Device(Protocol):
    """A camera, stream or screen that is open. It is opened, read and closed by one thread, and may hang.

    Iteration waits for the next frame, BGR uint8 (H, W, 3), gives an empty one for one that is damaged, and None where
    none came. When it ends or raises, whatever it raises, the device is lost. ``size`` is (height, width) as far as is
    known, ``late`` how many seconds without a frame count as lost; None goes by ``fps``.
    """

    @property
    def description(self) -> str: ...
    @property
    def fps(self) -> Fraction | None: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def late(self) -> float | None: ...
    def __iter__(self) -> Iterator[Frame | None]: ...
    def close(self) -> None: ...


class _Reader(threading.Thread):
    """One life of a device. Once abandoned it delivers nothing more, and closes the device when it wakes."""

    def __init__(
        self,
        name: str,
        open_device: Callable[[], Device],
        changed: threading.Condition,
        reject: Callable[[], None],
        drop: Callable[[], None],
    ) -> None:
        # A daemon: a thread that hangs in a driver must not keep the program from ending.
        super().__init__(name=f"stylesdk {name}", daemon=True)
        self.source = name
        self.device: Device | None = None
        self.newest: tuple[Frame, float] | None = None
        self.opened = clock.now()
        self.deadline = self.opened + _OPENING
        self.started = self.ended = self.abandoned = False
        self.error: Exception | None = None
        self._open, self._changed, self._reject, self._drop = open_device, changed, reject, drop

    def run(self) -> None:
        error = None
        try:
            device = self._open()
            try:
                self._read(device)
            finally:
                device.close()
        except Exception as failure:  # noqa: BLE001 - whatever a driver raises, the device is lost
            error = failure
        with self._changed:
            self.ended, self.error = True, error
            self._changed.notify_all()

    def _read(self, device: Device) -> None:
        with self._changed:
            if self.abandoned:
                return
            self.device, self.opened = device, clock.now()
            self.deadline = self.opened + _FIRST
            self._changed.notify_all()
        late = device.late or (max(_LATE, _LATE_FRAMES / float(device.fps)) if device.fps else _LATE)
        for image in device:
            if not self._deliver(image, late):
                return

    def _deliver(self, image: object, late: float) -> bool:
        now = clock.now()
        with self._changed:
            if self.abandoned:
                return False
            if _is_frame(image):
                if self.newest is not None:
                    self._drop()
                self.newest, self.deadline, self.started = (image, now), now + late, True
                self._changed.notify_all()
            elif image is not None and self.started:  # before a stream's first whole picture it is no damage
                self._reject()
            return True

    def reason(self) -> str:
        """Why the device is lost."""
        if self.error is not None:
            first = str(self.error).partition("\n")[0].removeprefix("got: ")
            return first.removeprefix(f"{self.source}: ") or type(self.error).__name__
        return "it ended" if self.ended else "no whole frame came" if self.device else "it did not open"


class WatchedSource:
    """A live source that survives its device. Times are microseconds since the first frame; the newest frame wins.

    A device that ends, fails or gives no frame for 1.5 seconds (or four frame times) is lost: "no signal" cards
    with ``signal=False`` come four times a second, and it is opened again with pauses from 0.25 to 4 seconds.
    Frames that are none (another dtype or shape, empty, undecodable) are left out, and after the first that is one
    counted in ``damaged``. ``dropped`` counts those that a newer one replaced before anybody took them.

    Args:
        name: what cards and messages call it.
        kind: see ``Source``.
        open_device: opens the device, or raises; called again whenever it was lost.
        give_up: seconds without a frame after which a lost source ends the iteration.

    Raises:
        SourceError: it cannot be opened at first.
        SourceLostError: from the iteration, once, when it stays lost for ``give_up`` seconds.
    """

    paths: Sequence[Path] = ()
    live = True
    frames: int | None = None

    def __init__(self, name: str, kind: Kind, open_device: Callable[[], Device], give_up: float) -> None:
        self.name, self.kind = name, kind
        self.damaged = self.dropped = 0
        self._open, self._give_up = open_device, give_up
        self._changed = threading.Condition()
        self._closed = False
        self._hanging: list[_Reader] = []
        self._retry = 0.0
        self._stuck: float | None = None  # since when as many readers hang as may
        self._ill = clock.now()  # since when it does not give frames for longer than a moment
        self._reader = self._new_reader()
        try:
            device = self._first_device()
        except BaseException:
            self.close()
            raise
        self.description, self.fps, self._size = device.description, device.fps, device.size

    def __iter__(self) -> Iterator[SourceFrame]:
        first, pts = None, -1
        last = clock.now()
        lost = False
        while True:
            found = self._wait(lost)
            if self._closed:
                return
            now = clock.now()
            if found is not None:
                if lost:
                    _log.warning("%s is back after %.1f s", self.name, now - last)
                image, captured = found
                lost, last, self._size = False, captured, (image.shape[0], image.shape[1])
            else:
                lost = self._look_after(lost, now, last)
                if not lost:
                    continue
                image, captured = no_signal_card(self.name, now - last, self._size), now
            first = captured if first is None else first
            pts = max(round((captured - first) / float(_MICROSECOND)), pts + 1)
            yield SourceFrame(image, "", pts, _MICROSECOND, captured=captured, signal=not lost)

    def close(self) -> None:
        """End the iteration and close the device. A thread that hangs is left behind; it closes what it holds."""
        with self._changed:
            self._closed = True
            self._abandon()
            self._changed.notify_all()
        end = clock.now() + _JOIN
        for reader in self._hanging:
            reader.join(max(end - clock.now(), 0))

    def _first_device(self) -> Device:
        reader = self._reader
        with self._changed:
            self._changed.wait_for(lambda: reader.device or reader.ended, _OPENING)
        if reader.device is not None:
            return reader.device
        if isinstance(reader.error, StyleSDKError):
            raise reader.error
        do = "check that another program can use it"
        raise SourceError(f"{self.name}, {reader.reason()}", do=do) from reader.error

    def _wait(self, lost: bool) -> tuple[Frame, float] | None:
        """The newest frame; None when it is time for a card, or when something is wrong."""
        reader = self._reader
        with self._changed:
            seconds = _CARD_EVERY if lost else max(reader.deadline - clock.now(), 0)
            self._changed.wait_for(lambda: self._closed or reader.newest or (reader.ended and not lost), seconds)
            found, reader.newest = reader.newest, None
            if found is not None and reader.device is not None:
                self.description, self.fps = reader.device.description, reader.device.fps
            return found

    def _look_after(self, lost: bool, now: float, last: float) -> bool:
        """Whether the device is lost now; if so, what has to be done about it is done."""
        reader = self._reader
        failed = reader.ended or now >= reader.deadline
        if failed and not reader.abandoned:
            if not lost:
                _log.warning("%s is lost (%s), trying to open it again", self.name, reader.reason())
            with self._changed:
                self._abandon()
            if last - reader.opened >= _WELL:
                self._ill = now
            self._retry = now + min(max(_PAUSES[0], (now - self._ill) / 60), _PAUSES[1])
        if not (lost or failed):
            return False
        if now - last >= self._give_up:
            raise SourceLostError(
                f"{self.name}, no frame for {now - last:.0f} s ({reader.reason()})",
                expected=f"frames again within {self._give_up:g} s",
                do="check the cable, the network and what sends, then start again",
            ) from reader.error
        if reader.abandoned and now >= self._retry:
            self._reopen(now)
        return True

    def _reopen(self, now: float) -> None:
        with self._changed:
            self._hanging = [r for r in self._hanging if r.is_alive()]
            if len(self._hanging) < _HANGING:
                self._stuck = None
                if not self._closed:
                    self._reader = self._new_reader()
                return
        self._stuck = now if self._stuck is None else self._stuck
        if now - self._stuck >= _STUCK:
            raise SourceLostError(
                f"{self.name}, which hangs in its driver",
                expected="a driver that answers",
                do="unplug it and plug it in again, then start again: only the end of the program frees the driver",
            )

    def _new_reader(self) -> _Reader:
        reader = _Reader(self.name, self._open, self._changed, self._reject, self._drop)
        reader.start()
        return reader

    def _abandon(self) -> None:
        self._reader.abandoned, self._reader.newest = True, None
        self._hanging.append(self._reader)

    def _drop(self) -> None:
        self.dropped += 1

    def _reject(self) -> None:
        self.damaged += 1
        if self.damaged & (self.damaged - 1) == 0:  # at 1, 2, 4, 8: once in a while
            _log.warning("%s: %d damaged frames were left out so far", self.name, self.damaged)


def _is_frame(image: object) -> TypeGuard[Frame]:
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    )
