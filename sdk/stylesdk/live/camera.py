"""A camera that may be unplugged: watched, reopened, and given up only after a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from stylesdk.errors import SourceError, SourceLostError
from stylesdk.frames import Frame
from stylesdk.live.sources import Kind, SourceFrame

_log = logging.getLogger(__name__)
_MICROSECOND = Fraction(1, 1_000_000)
_LOST = 2.0  # seconds without a picture
_CARD_EVERY = 0.5  # seconds between "no signal" cards
_LONGEST_WAIT = 8.0  # seconds between two tries to reopen


class CameraSource:
    """A camera by its OpenCV index; times are microseconds since the first frame.

    Without a picture for two seconds it counts as lost: a "no signal" card is shown, and the camera is
    reopened with growing pauses.

    Args:
        index: number of the camera, 0 is the first.
        give_up: seconds after which a lost camera ends the run.

    Raises:
        SourceError: it cannot be opened at first, or stays lost for ``give_up`` seconds.
    """

    kind: Kind = "camera"
    paths: Sequence[Path] = ()
    live = True
    frames: int | None = None

    def __init__(self, index: int, give_up: float = 30.0) -> None:
        self.name = self.description = f"camera {index}"
        self._index, self._give_up = index, give_up
        self._size = (480, 640)
        self._closed = False
        self._camera = cv2.VideoCapture(index)
        if not self._camera.isOpened():
            self._camera.release()
            raise SourceError(
                f"{self.name}, which cannot be opened",
                expected="a connected camera that no other program holds",
                do="check the cable and the number (0 is the first camera), close other video programs, "
                "allow camera access in the system settings (Linux: be in the group that owns /dev/video*), "
                "or try the source 'test'",
            )
        self._prepare()
        fps = self._camera.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(fps).limit_denominator(1001) if 1 <= fps <= 1000 else None

    def __iter__(self) -> Iterator[SourceFrame]:
        start, last = None, time.monotonic()
        for image in self._pictures():
            now = time.monotonic()
            if image is None:
                if now - last < _LOST:
                    time.sleep(0.05)
                    continue
                lost, image = True, self._no_signal(now - last)
            else:
                lost, last, self._size = False, now, (image.shape[0], image.shape[1])
            start = now if start is None else start
            pts = round((now - start) / float(_MICROSECOND))
            yield SourceFrame(image, "", pts, _MICROSECOND, signal=not lost)

    def _pictures(self) -> Iterator[Frame | None]:
        """What the camera gives; None for nothing. Reopens a lost camera between two pictures."""
        last = retry = time.monotonic()
        wait = 0.5
        while not self._closed:
            found, image = self._camera.read() if self._camera.isOpened() else (False, None)
            now = time.monotonic()
            if found and image is not None:
                last, wait = now, 0.5
                yield np.asarray(image, dtype=np.uint8)
                continue
            if now - last >= self._give_up:
                raise SourceLostError(
                    f"{self.name}, no picture for {now - last:.0f} s", do="check the cable, then start again"
                )
            if now - last >= min(_LOST, self._give_up) and now >= retry:
                _log.warning("%s is lost, trying to reopen it", self.name)
                self._camera.release()
                self._camera = cv2.VideoCapture(self._index)
                self._prepare()
                retry, wait = now + wait, min(2 * wait, _LONGEST_WAIT)
            yield None

    def _prepare(self) -> None:
        # One frame in the driver's queue: an older one would only be late.
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def _no_signal(self, seconds: float) -> Frame:
        time.sleep(_CARD_EVERY)
        card = np.full((*self._size, 3), 32, np.uint8)
        place, scale = (16, self._size[0] // 2), max(self._size[1] / 640, 0.3)
        text = f"no signal from {self.name} for {seconds:.0f} s"
        cv2.putText(card, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, (255, 255, 255), 1, cv2.LINE_AA)
        return card

    def close(self) -> None:
        """Release the camera."""
        self._closed = True
        self._camera.release()
