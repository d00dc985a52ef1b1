"""Text on a frame that stays readable on any picture and at any size."""

from __future__ import annotations

import cv2
import numpy as np

from stylesdk.frames import Frame

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_hud(image: Frame, lines: list[str]) -> Frame:
    """A copy of ``image``, BGR uint8 (H, W, 3), with ``lines`` in its upper left corner on a darkened box.

    Letters grow with the picture, and shrink until the longest line and all lines fit.
    """
    out = image.copy()
    height, width = out.shape[:2]
    if not lines:
        return out
    (unit, rise), _ = cv2.getTextSize(max(lines, key=len), _FONT, 1.0, 1)
    room = min(0.95 * width / (unit + 28), 0.95 * height / (40 * len(lines) + 14))
    scale = min(max(min(height, width) / 800, 0.45), room)
    pitch, margin = round(40 * scale), round(14 * scale)
    box = out[: pitch * len(lines) + margin, : round(unit * scale) + 2 * margin]
    box[:] = (box.astype(np.uint16) * 2 // 5).astype(np.uint8)
    for row, line in enumerate(lines):
        foot = (margin, row * pitch + margin + round(rise * scale))
        cv2.putText(out, line, foot, _FONT, scale, (255, 255, 255), max(round(2 * scale), 1), cv2.LINE_AA)
    return out
