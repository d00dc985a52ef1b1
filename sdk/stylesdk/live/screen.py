"""The screen, or a part of it, as a source."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from stylesdk.errors import MissingExtraError, SourceError
from stylesdk.frames import Frame
from stylesdk.live.clock import now
from stylesdk.live.watchdog import WatchedSource

try:
    import mss
except ImportError as error:
    raise MissingExtraError("mss", "live", "the screen as a source") from error

_GRAMMAR = re.compile(
    r"screen(?::(?P<number>\d+)|:(?P<x>-?\d+),(?P<y>-?\d+),(?P<width>[1-9]\d*)x(?P<height>[1-9]\d*))?",
    re.ASCII,
)
_EXPECTED = "screen, screen:N (0 is all screens as one, 1 the first), screen:X,Y,WxH"


def open_screen(text: str, fps: float | None, give_up: float) -> WatchedSource:
    """The screen that ``screen``, ``screen:2`` or ``screen:X,Y,WxH`` names, ``fps`` times a second (default 30).

    X and Y count from the upper left corner of the first screen, and are negative left of it and above it.

    Raises:
        SourceError: none of these, no such screen, or a desktop that lets nobody look.
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise SourceError(f"{text!r}", expected=_EXPECTED, do="write ./screen for a file")
    rate = Fraction(fps or 30).limit_denominator(1001)
    groups = {key: int(value) for key, value in found.groupdict().items() if value is not None}
    return WatchedSource(text, "screen", lambda: _Screen(text, groups, rate), give_up)


class _Screen:
    """Pictures of one region; opened, read and closed by one thread."""

    late: float | None = None

    def __init__(self, name: str, place: dict[str, int], fps: Fraction) -> None:
        self.fps: Fraction | None = fps
        self._period = float(1 / fps)
        try:
            self._mss = mss.MSS()
        except (mss.ScreenShotError, OSError) as error:
            raise _unseen(f"{name}, which cannot be opened: {error}") from error
        try:
            self._region = self._place(name, place)
            height, width = self._grab(name).shape[:2]
        except BaseException:
            self._mss.close()
            raise
        self.size = (height, width)
        corner = f"{self._region['left']},{self._region['top']}"
        self.description = f"{name}: {width}x{height} at {corner}, {float(fps):g} frames/s"

    def _place(self, name: str, place: dict[str, int]) -> dict[str, int]:
        if "x" in place:
            return {"left": place["x"], "top": place["y"], "width": place["width"], "height": place["height"]}
        screens = self._mss.monitors
        number = place.get("number", 1)
        if number >= len(screens):
            got = f"{name}, but the last screen is {len(screens) - 1}"
            raise SourceError(got, expected=_EXPECTED, do="choose a smaller number")
        return {key: screens[number][key] for key in ("left", "top", "width", "height")}

    def _grab(self, name: str) -> Frame:
        try:
            shot = self._mss.grab(self._region)
        except (mss.ScreenShotError, OSError, ValueError) as error:
            raise _unseen(f"{name}, which cannot be read: {error}") from error
        return np.asarray(cv2.cvtColor(np.asarray(shot), cv2.COLOR_BGRA2BGR), dtype=np.uint8)

    def __iter__(self) -> Iterator[Frame | None]:
        due = now()
        while True:
            yield self._grab("the screen")
            # A late picture does not hurry those after it.
            due = max(due + self._period, now())
            time.sleep(max(due - now(), 0))

    def close(self) -> None:
        self._mss.close()


def _unseen(got: str) -> SourceError:
    return SourceError(
        got,
        expected="a region of a desktop that programs may look at",
        do="Linux: use an X11 session, as Wayland shows programs nothing, and set DISPLAY; "
        "macOS: allow screen recording in the system settings; check the numbers",
    )
