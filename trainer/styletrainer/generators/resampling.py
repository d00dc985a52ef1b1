"""Resizing as a product of matrices, for graphs that are exported: TensorRT refuses a Resize with antialiasing."""

from __future__ import annotations

import torch
from torch import Tensor


def resampling(old: int, new: int, step: Tensor) -> Tensor:
    """The matrix (``new``, ``old``) that takes one axis of a picture from ``old`` to ``new`` pixels.

    ``step``: pixels of the old axis from one of the new to the next, a scalar of the picture's dtype and device; a
    tensor, since in an exported graph sizes are open. Linear interpolation, over as many pixels as become one where
    the picture shrinks: what ``F.interpolate`` does with ``antialias``.
    """
    pixels, places = (torch.arange(side, device=step.device).to(step.dtype) + 0.5 for side in (old, new))
    taps = (1 - (pixels - step * places[:, None]).abs() / step.clamp(min=1)).clamp(min=0)
    return taps / taps.sum(1, keepdim=True)
