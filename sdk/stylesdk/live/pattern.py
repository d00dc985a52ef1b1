"""The source ``test``: a moving pattern that needs no camera."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from stylesdk.errors import SourceError
from stylesdk.frames import Frame
from stylesdk.live.sources import Kind, SourceFrame

_GRAMMAR = re.compile(r"test(?::(\d+)x(\d+))?(?::(\d+))?")
_PATTERN_FPS = Fraction(30)


def pattern_from_text(text: str) -> PatternSource:
    """The pattern that ``test``, ``test:N`` or ``test:640x480:N`` names.

    Raises:
        SourceError: none of these, or a size outside 16 to 8192.
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise SourceError(f"{text!r}", expected="test, test:N, test:WxH or test:WxH:N", do="write ./test for a file")
    width, height, count = (int(g) if g else None for g in found.groups())
    return PatternSource(width or 640, height or 480, count)


class PatternSource:
    """Moving colour bars with a ball and a frame counter, paced at 30 fps; endless when ``count`` is None."""

    name = "test"
    description = "a moving test pattern"
    kind: Kind = "test"
    paths: Sequence[Path] = ()
    fps: Fraction | None = _PATTERN_FPS
    live = True

    def __init__(self, width: int, height: int, count: int | None) -> None:
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise SourceError(f"test pattern of {width}x{height}", expected="16x16 to 8192x8192")
        self.frames = count
        hue = np.linspace(0, 180, width, endpoint=False, dtype=np.float32).astype(np.uint8)
        value = np.linspace(255, 60, height, dtype=np.float32).astype(np.uint8)
        bars = np.stack(np.broadcast_arrays(hue[None, :], np.uint8(200), value[:, None]), axis=-1)
        self._bars = np.asarray(cv2.cvtColor(bars, cv2.COLOR_HSV2BGR), dtype=np.uint8)

    def __iter__(self) -> Iterator[SourceFrame]:
        start, index = time.monotonic(), 0
        while self.frames is None or index < self.frames:
            time.sleep(max(start + float(index / _PATTERN_FPS) - time.monotonic(), 0))
            yield SourceFrame(self._draw(index), "", index, 1 / _PATTERN_FPS, 1)
            index += 1

    def _draw(self, index: int) -> Frame:
        image = np.roll(self._bars, 2 * index, axis=1)
        height, width = image.shape[:2]
        x = round(width * (0.5 + 0.4 * np.sin(index / 20)))
        cv2.circle(image, (x, height // 2), height // 6, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.putText(image, str(index), (8, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        return image

    def close(self) -> None:
        """Nothing is held open."""
