"""The source ``test``: a moving pattern that needs no camera, and says in its pixels which frame it is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from stylesdk.errors import SourceError
from stylesdk.frames import Frame
from stylesdk.live.clock import now, ticks
from stylesdk.live.sources import Kind, SourceFrame
from stylesdk.live.stamp import Stamp, stamp_rows, write_stamp

_GRAMMAR = re.compile(r"test(?::(\d+)x(\d+))?(?::(\d+))?(?:@(\d+(?:\.\d+)?|max))?")
_FPS = Fraction(30)
_MOVE = 2  # pixels a frame


def pattern_from_text(text: str) -> PatternSource:
    """The pattern that ``test``, ``test:N``, ``test:640x480`` or ``test:640x480:N`` names.

    ``@RATE`` after any of them is another rate than 30 frames a second; ``@max`` or ``@0`` waits for nobody but
    the consumer, who gets every frame.

    Raises:
        SourceError: none of these, a size outside 16 to 8192, or a rate above 1000.
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        expected = "test, test:N, test:WxH or test:WxH:N, each also with @RATE or @max"
        raise SourceError(f"{text!r}", expected=expected, do="write ./test for a file")
    width, height, count = (int(g) if g else None for g in found.groups()[:3])
    rate = found[4] or str(_FPS)
    return PatternSource(width or 640, height or 480, count, fps=Fraction(0 if rate == "max" else rate))


class PatternSource:
    """Moving colour bars with a square on its way, and a stamp that ``read_stamp`` reads, by the clock.

    Args:
        width, height: pixels, 16 to 8192.
        count: frames; None is endless.
        fps: frames a second, at most 1000; 0 is as fast as they are taken, each of them.

    Raises:
        SourceError: a size or rate outside these.
    """

    name = "test"
    kind: Kind = "test"
    paths: Sequence[Path] = ()

    def __init__(self, width: int, height: int, count: int | None, *, fps: Fraction = _FPS) -> None:
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise SourceError(f"test pattern of {width}x{height}", expected="16x16 to 8192x8192")
        if not 0 <= fps <= 1000:
            raise SourceError(f"test pattern at {float(fps):g} frames/s", expected="up to 1000, or 0 for unpaced")
        self.frames = count
        self.live = fps > 0
        self.fps: Fraction | None = fps or _FPS
        pace = f"{float(fps):g} frames/s" if self.live else "as fast as it is taken"
        self.description = f"a moving test pattern: {width}x{height}, {pace}"
        hue = np.linspace(0, 180, width, endpoint=False, dtype=np.float32).astype(np.uint8)
        value = np.linspace(255, 60, height, dtype=np.float32).astype(np.uint8)
        bars = np.stack(np.broadcast_arrays(hue[None, :], np.uint8(200), value[:, None]), axis=-1)
        self._bars = np.asarray(cv2.cvtColor(bars, cv2.COLOR_HSV2BGR), dtype=np.uint8)

    def __iter__(self) -> Iterator[SourceFrame]:
        moments = ticks(float(self.fps or _FPS) if self.live else float("inf"))
        for index, _ in zip(itertools.count() if self.frames is None else range(self.frames), moments, strict=False):
            captured = now()
            image = self._draw(Stamp(index, captured))
            yield SourceFrame(image, "", index, 1 / (self.fps or _FPS), 1, captured)

    def _draw(self, stamp: Stamp) -> Frame:
        height, width = self._bars.shape[:2]
        top, left = stamp_rows(height), _MOVE * stamp.index % width
        # What leaves on one side comes in on the other. Two copies: a camera's frame costs no more.
        image = np.empty_like(self._bars)
        image[:, left:], image[:, :left] = self._bars[:, : width - left], self._bars[:, width - left :]
        side = max((height - top) // 3, 1)
        along = 2 * _MOVE * stamp.index % (2 * max(width - side, 1))
        x = min(along, 2 * max(width - side, 1) - along)  # there and back
        image[top + side : top + 2 * side, x : x + side] = 255
        write_stamp(image, stamp)
        return image

    def close(self) -> None:
        """Nothing is held open."""
