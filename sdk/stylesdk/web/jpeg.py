"""JPEG in and out, with a look at the header before anything is decoded."""

from __future__ import annotations

import cv2
import numpy as np

from stylesdk.frames import Frame
from stylesdk.web.limits import MALFORMED, NOT_A_FRAME, TOO_BIG, Limits, Refusal

_QUALITY = 90
_LEAST = 16  # pixels of a side
_BASELINE, _EXTENDED, _SCAN = 0xC0, 0xC1, 0xDA
_OTHER_FRAMES = frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC are no frame headers
# What may come before the frame header: DHT, DQT, DRI, APPn and COM. All have a length. Of the other markers some
# have none, or are skipped by decoders in their own way: a second, larger header could be hidden behind them.
_BEFORE = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})


def frame_from_jpeg(data: bytes, limits: Limits) -> Frame:
    """The picture, BGR uint8 (H, W, 3), as it is stored: an EXIF orientation is not looked at.

    Raises:
        Refusal: no JPEG, a damaged or progressive one, or one over the limits, which is then never decoded.
    """
    height, width = checked_size(data, limits)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        frame = None
    if frame is None or frame.shape != (height, width, 3):
        raise Refusal(MALFORMED, "a JPEG that cannot be decoded", "a whole baseline JPEG")
    return np.asarray(frame, dtype=np.uint8)


def jpeg_from_frame(frame: Frame) -> bytes:
    """BGR uint8 (H, W, 3) as a JPEG of quality 90."""
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def checked_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Height and width by the header, within the limits. Raises as ``frame_from_jpeg``."""
    if data[:3] != b"\xff\xd8\xff":
        raise Refusal(NOT_A_FRAME, f"{len(data)} bytes that are no JPEG", "a frame number and a JPEG")
    if not data.endswith(b"\xff\xd9"):
        raise Refusal(MALFORMED, "a JPEG without its end", "a whole baseline JPEG")
    at, height, width, channels = _frame_header(data)
    # A scan can be some bytes that touch every pixel: a small file with thousands of them takes minutes.
    if data.count(bytes((0xFF, _SCAN)), at) > channels:
        raise Refusal(MALFORMED, "a JPEG of too many scans", "one scan, or one for each of three channels")
    check_limits(height, width, limits)
    return height, width


def check_limits(height: int, width: int, limits: Limits) -> None:
    """Raise a Refusal when a frame is too small or over the limits."""
    if min(height, width) < _LEAST or max(height, width) > limits.side or height * width > limits.pixels:
        raise Refusal(
            TOO_BIG,
            f"a frame of {width}x{height}",
            f"sides of {_LEAST} to {limits.side} pixels, {limits.pixels / 1e6:.2g} megapixels at most",
            "send a smaller picture",
        )


def _frame_header(data: bytes) -> tuple[int, int, int, int]:
    """Where the frame header ends, height, width, channels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (_BASELINE, _EXTENDED) and length >= 11 and at + 10 <= len(data) and data[at + 9] in (1, 3):
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            return at + 2 + length, height, width, data[at + 9]
        if marker in _OTHER_FRAMES:
            raise Refusal(MALFORMED, "a progressive, lossless or arithmetic JPEG", "a baseline JPEG")
        if marker not in _BEFORE or length < 2:
            break
        at += 2 + length
    raise Refusal(MALFORMED, "a JPEG whose header cannot be read", "a baseline JPEG")
