"""Figures of pictures and clips, as pure functions. Frames are BGR uint8 (H, W, 3), as the SDK takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from stylesdk.frames import Frame

Plane = NDArray[np.float32]
PERIODS = (2, 4, 8)
BORDER = 16
RIM = (4.0, 12.0)  # sigmas in pixels: of what is coarse, and of its surroundings
PLAIN = 0.02  # less border than this is a margin of one colour: nothing that a style's could be a multiple of
STEEPEST = 255 * 4 * 2**0.5  # the largest magnitude that Sobel's 3x3 kernels give
CUT = 0.5  # less of a frame than this followed from the one before: a cut, or noise
SENSOR_SIGMA = 2.0  # of 255, the noise of a webcam in a lit room


def detail(frame: Frame) -> Plane:
    """Luma minus its Gaussian blur, float32 (H, W)."""
    luma = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(luma - cv2.GaussianBlur(luma, (0, 0), 3), dtype=np.float32)


def grid(frame: Frame) -> float:
    """Share of the detail that repeats in every cell, worst of the periods."""
    plane = detail(frame)
    worst = 0.0
    for period in PERIODS:
        height, width = (side // period for side in plane.shape)
        cells = plane[: height * period, : width * period].reshape(height, period, width, period)
        worst = max(worst, float(cells.mean((0, 2)).std() / (plane.std() + 1e-6)))
    return worst


def border(frame: Frame) -> float:
    """Detail of the outer pixels over that of the inside; 0 where there is no inside."""
    plane = detail(frame)
    inside = np.zeros(plane.shape, bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    if not inside.any():
        return 0.0
    return float(plane[~inside].std() / (plane[inside].std() + 1e-6))


def halo(photo: Frame, styled: Frame) -> float:
    """What is painted around dark forms because they are there: RMS over pixels and colours, of 255.

    Coarse colours are fitted by the photo's coarse luma and by how far that is below and above its surroundings; this
    is what the last of them explains. 0: a light ground has the same colours beside a dark figure as far from it.
    """
    luma = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY).astype(np.float64)
    coarse, around = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in RIM)
    higher = (coarse - around).ravel()
    rim = np.maximum(higher, 0)
    others = np.stack([np.ones_like(rim), coarse.ravel(), rim - higher], 1)
    rim -= others @ np.linalg.lstsq(others, rim, rcond=None)[0]
    painted = cv2.GaussianBlur(styled.astype(np.float64), (0, 0), RIM[0]).reshape(-1, 3)
    return float(np.sqrt(np.mean((rim @ painted) ** 2) / (rim @ rim + 1e-6) / len(rim)))


def edges(frame: Frame) -> Plane:
    """Magnitude of the luma's gradient by Sobel's 3x3 kernels, float32 (H, W)."""
    luma = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.magnitude(*(cv2.Sobel(luma, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))), np.float32)


def edge_ssim(photo: Frame, styled: Frame) -> float:
    """SSIM (Wang et al. 2004: Gaussian window, sigma 1.5) of the two edge maps: 1 is drawn on the same lines."""
    return float(
        structural_similarity(
            edges(photo), edges(styled), data_range=STEEPEST, gaussian_weights=True, use_sample_covariance=False
        )
    )


@dataclass(frozen=True)
class Motion:
    """Where every pixel of frame ``after`` was in frame ``before``, and which of them were really there."""

    before: int
    after: int
    where: Plane  # (H, W, 2), x and y
    followed: NDArray[np.bool_]  # (H, W), False where hidden, or out of the picture


def motion_between(before: Frame, after: Frame) -> tuple[Plane, NDArray[np.bool_]]:
    """``where`` and ``followed`` of a Motion: dense inverse search (Kroeger et al. 2016), medium preset.

    A pixel is followed where the flow there and the flow back agree (Sundaram et al. 2010).
    """
    back, forth = _flow(after, before), _flow(before, after)
    height, width = before.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    where = np.stack([x, y], axis=-1) + back
    returned = _fetched(forth, where)
    slack = 0.01 * (np.square(back).sum(-1) + np.square(returned).sum(-1)) + 0.5
    followed = np.square(back + returned).sum(-1) < slack
    followed &= (where >= 0).all(-1) & (where[..., 0] <= width - 1) & (where[..., 1] <= height - 1)
    return where, followed


def _flow(start: Frame, end: Frame) -> Plane:
    """How far every pixel of ``start`` is from where it is in ``end``: (H, W, 2), x and y."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (start, end)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # OpenCV's annotations do not know that without a flow to begin with it is None.
    return np.asarray(search.calc(*grey, None), dtype=np.float32)  # type: ignore[call-overload]


def _fetched(values: Plane, where: Plane) -> Plane:
    """The values (H, W, C) at the places ``where``, linear in between."""
    x, y = np.ascontiguousarray(where[..., 0]), np.ascontiguousarray(where[..., 1])
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def motions(frames: Sequence[Frame], lag: int) -> list[Motion]:
    """Motion over ``lag`` frames up to every frame of a clip; hard cuts are left out."""
    found = []
    for after in range(lag, len(frames)):
        where, followed = motion_between(frames[after - lag], frames[after])
        if followed.mean() > CUT:
            found.append(Motion(after - lag, after, where, followed))
    return found


def warping_error(frames: Sequence[Frame], moved: Sequence[Motion]) -> float:
    """RMS difference of frames and their predecessors warped to them, of 255, over all followed pixels."""
    total, count = 0.0, 0
    for motion in moved:
        warped = _fetched(frames[motion.before].astype(np.float32), motion.where)
        difference = (frames[motion.after] - warped)[motion.followed]
        total += float(np.square(difference).sum(dtype=np.float64))
        count += difference.size
    return float(np.sqrt(total / max(count, 1)))


def rms(left: Frame, right: Frame) -> float:
    """Root mean square difference of two frames, of 255."""
    return float(np.sqrt(np.square(left.astype(np.float32) - right).mean(dtype=np.float64)))


def noisy(frame: Frame, seed: int, sigma: float = SENSOR_SIGMA) -> Frame:
    """The frame with Gaussian sensor noise, rounded as a camera would."""
    noise = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.clip(np.rint(frame + noise), 0, 255).astype(np.uint8)
