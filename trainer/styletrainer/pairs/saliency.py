"""Where the small things of a picture are, and how much more each of their pixels counts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
_SIDE = 64  # pixels of the width that saliency is looked for in (Hou & Zhang 2007)
_SMALLEST = 4  # pixels at that size: less is no object
_MOST = 1000.0  # a region of less than one part in so many counts like one of that size


def spectral_residual(rgb: NDArray[np.uint8]) -> Map:
    """Saliency of an RGB uint8 (H, W, 3) picture, float32 (H, W), 0-1 (Hou & Zhang 2007).

    What is left of the log amplitude spectrum after its local mean is taken off, back in the picture, smoothed: what
    the statistics of all pictures, which are smooth there, do not explain.
    """
    height, width = rgb.shape[:2]
    size = (_SIDE, max(round(height * _SIDE / width), 8))
    grey = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    spectrum = np.fft.fft2(grey.astype(np.float64) / 255)
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3))
    back = np.square(np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))))
    smooth = cv2.GaussianBlur(back, (0, 0), 2.5)
    smooth = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth / max(smooth.max(), 1e-12), np.float32)


def salient_regions(rgb: NDArray[np.uint8]) -> Map:
    """The objects of a picture, 1 inside and 0 outside, float32 (H, W): saliency above three times its mean."""
    saliency = spectral_residual(rgb)
    found = (saliency > 3 * saliency.mean()).astype(np.uint8)
    _, labels, about, _ = cv2.connectedComponentsWithStats(found)
    # Specks are noise here; in a mask that somebody drew they are what it was drawn for.
    large = about[:, cv2.CC_STAT_AREA] >= _SMALLEST * (found.shape[1] / _SIDE) ** 2
    return np.asarray(found * large[labels], np.float32)


def importance(mask: Map) -> Map:
    """How much each pixel counts, float32 (H, W): 1 outside of the mask (H, W), 0-1, more in its small regions.

    A region that takes a share s of the picture adds 1 / sqrt(s) to each of its pixels: 1 % counts 11 times, a
    quarter 3 times.
    """
    _, labels, found, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8))
    areas = found[:, cv2.CC_STAT_AREA].astype(np.float64)
    added = np.sqrt(np.minimum(mask.size / np.maximum(areas, 1), _MOST))
    added[0] = 0  # the background
    return np.asarray(1 + mask * added[labels], np.float32)
