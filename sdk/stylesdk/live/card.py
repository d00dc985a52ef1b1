"""The picture that says that there is none."""

from __future__ import annotations

import cv2
import numpy as np

from stylesdk.frames import Frame

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def no_signal_card(name: str, seconds: float, size: tuple[int, int]) -> Frame:
    """A dark BGR uint8 card of ``size`` (height, width): no signal from ``name`` for so many seconds."""
    height, width = size
    card = np.full((height, width, 3), 32, np.uint8)
    text = f"no signal from {name} for {seconds:.0f} s"
    (unit, _), _ = cv2.getTextSize(text, _FONT, 1.0, 1)
    scale = min(0.9 * width / unit, 2.0)
    cv2.putText(
        card, text, (round((width - scale * unit) / 2), height // 2), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA
    )
    return card
