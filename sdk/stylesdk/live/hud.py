"""Text on a frame that stays readable on any picture and at any size, and what it says of a run."""

from __future__ import annotations

import cv2

from stylesdk.frames import Frame
from stylesdk.live.progress import Counts

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LIMITS = {"camera": "the source", "style": "the style", "output": "the display"}


def draw_hud(image: Frame, lines: list[str]) -> Frame:
    """A copy of ``image``, BGR uint8 (H, W, 3), with ``lines`` in its upper left corner on a darkened box.

    Letters grow with the picture, and shrink until the longest line and all lines fit.
    """
    out = image.copy()
    height, width = out.shape[:2]
    if not lines:
        return out
    sizes = [cv2.getTextSize(line, _FONT, 1.0, 1)[0] for line in lines]
    unit, rise = max(across for across, _ in sizes), sizes[0][1]
    room = min(0.95 * width / (unit + 28), 0.95 * height / (40 * len(lines) + 14))
    scale = min(max(min(height, width) / 800, 0.45), room)
    pitch, margin = round(40 * scale), round(14 * scale)
    box = out[: pitch * len(lines) + margin, : round(unit * scale) + 2 * margin]
    cv2.convertScaleAbs(box, box, 0.4)
    for row, line in enumerate(lines):
        foot = (margin, row * pitch + margin + round(rise * scale))
        cv2.putText(out, line, foot, _FONT, scale, (255, 255, 255), max(round(2 * scale), 1), cv2.LINE_AA)
    return out


def run_lines(counts: Counts, backend: str) -> list[str]:
    """Latencies of late, drops, what styles and what limits a run; nothing before the first frame."""
    if not counts.limit:
        return []
    age, style = counts.stages["age"].recent, counts.stages["style"].recent
    return [
        f"age {age.p50:.0f} ms (p99 {age.p99:.0f})  style {style.p50:.1f} ms (p99 {style.p99:.1f})",
        f"dropped {counts.unstyled} before the style, {counts.unshown} after",
        f"{backend}, limited by {_LIMITS[counts.limit]}",
    ]
