"""The only code that reads a picture, checks frames, fits them into an engine's size, and restores them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if sys.platform == "win32":
    # OpenCV reads it once, when it is loaded, and here it is. Without it some cameras take a minute to open.
    os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")

import cv2
import numpy as np
from numpy.typing import NDArray

from stylesdk.errors import FrameError

Frame = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_DO = "give BGR uint8 (height, width, 3), as cv2.imread and cv2.VideoCapture return it"


def checked(frame: object) -> Frame:
    """``frame`` as C-contiguous BGR uint8 (H, W, 3); a non-contiguous one is copied, never changed.

    Raises:
        FrameError: not an array, wrong dtype, rank or channels, or empty.
    """
    if frame is None:
        raise FrameError("None", expected="a frame", do="check that the camera or file was read")
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"{type(frame).__name__}", expected="a numpy array", do=_DO)
    if frame.dtype != np.uint8:
        raise FrameError(f"dtype {frame.dtype}, shape {frame.shape}", expected="dtype uint8, 0-255", do=_DO)
    if frame.ndim != 3 or frame.shape[2] != 3:
        hint = "cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)" if frame.ndim == 2 else _DO
        raise FrameError(f"shape {frame.shape}", expected="shape (height, width, 3)", do=hint)
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise FrameError(f"shape {frame.shape}, an empty frame", expected="at least one pixel", do=_DO)
    return np.ascontiguousarray(frame)


def image_from_file(path: Path) -> Frame | None:
    """BGR uint8 (H, W, 3), upright by EXIF, whatever depth and channels the file has; None if unreadable."""
    try:
        # Not cv2.imread: it cannot open every name on Windows.
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


@dataclass(frozen=True)
class Fit:
    """How a frame of ``source`` (height, width) lies in a canvas of ``canvas``: scaled to ``inner``, top left."""

    source: tuple[int, int]
    inner: tuple[int, int]
    canvas: tuple[int, int]


def fit_for(source: tuple[int, int], canvas: tuple[int, int]) -> Fit:
    """The largest size of the frame's own shape that the canvas holds. Sizes are (height, width)."""
    scale = min(canvas[0] / source[0], canvas[1] / source[1])
    inner = (max(round(source[0] * scale), 1), max(round(source[1] * scale), 1))
    return Fit(source, (min(inner[0], canvas[0]), min(inner[1], canvas[1])), canvas)


def fitted(frame: Frame, fit: Fit) -> Frame:
    """The frame scaled into the canvas; what is left over repeats its edge."""
    inner = _resized(frame, fit.inner)
    bottom, right = fit.canvas[0] - fit.inner[0], fit.canvas[1] - fit.inner[1]
    if not bottom and not right:
        return np.ascontiguousarray(inner)
    padded = cv2.copyMakeBorder(inner, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8)


def restored(styled: Frame, fit: Fit) -> Frame:
    """The frame's part of a styled canvas, in the frame's own size."""
    return _resized(styled[: fit.inner[0], : fit.inner[1]], fit.source)


def prepared(frame: object, canvas_for: Callable[[tuple[int, int]], tuple[int, int]]) -> tuple[Frame, Fit, Frame]:
    """The frame, checked; how it fits the canvas that a runtime has for its size; and the frame in that canvas."""
    photo = checked(frame)
    size = (photo.shape[0], photo.shape[1])
    fit = fit_for(size, canvas_for(size))
    return photo, fit, fitted(photo, fit)


def finished(styled: Frame, photo: Frame, fit: Fit, keep_color: bool) -> Frame:
    """What ``prepared`` did, undone in the styled canvas; with the photo's chroma where ``keep_color``."""
    styled = restored(styled, fit)
    return recolored(styled, photo) if keep_color else styled


def recolored(styled: Frame, photo: Frame) -> Frame:
    """The luma of ``styled`` with the chroma of ``photo``, both BGR uint8 (H, W, 3).

    Luma is Y = 0.299 R + 0.587 G + 0.114 B (BT.601), rounded, as in cv2's YCrCb. Equal chroma means that R, G and B
    all differ from the photo's by the difference in Y: adding that, without the way there and back, changes
    nothing where Y is the same. Values beyond 0-255 are cut off.
    """
    wanted, present = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (styled, photo))
    brighter = cv2.cvtColor(cv2.subtract(wanted, present), cv2.COLOR_GRAY2BGR)  # 0 where the other is not:
    darker = cv2.cvtColor(cv2.subtract(present, wanted), cv2.COLOR_GRAY2BGR)  # cv2 cuts off at 0 too
    return np.asarray(cv2.subtract(cv2.add(photo, brighter), darker), dtype=np.uint8)


def _resized(frame: Frame, size: tuple[int, int]) -> Frame:
    if frame.shape[:2] == size:
        return frame
    kind = cv2.INTER_AREA if size[0] < frame.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (size[1], size[0]), interpolation=kind), dtype=np.uint8)
