"""Pictures made here."""

from __future__ import annotations

import cv2
import numpy as np


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A BGR picture that flow can follow: smooth blobs of a few pixels, 64-191."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(np.rint(128 + blobs * 30 / blobs.std()), 64, 191).astype(np.uint8)
