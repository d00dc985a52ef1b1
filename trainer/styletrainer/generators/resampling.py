"""Resizing as a product of matrices, for graphs that are exported: TensorRT refuses a Resize with antialiasing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def resampling(old: int, new: int, step: Tensor) -> Tensor:
    """The matrix (``new``, ``old``) that takes one axis of a picture from ``old`` to ``new`` pixels.

    ``step``: pixels of the old axis from one of the new to the next, a scalar of the picture's dtype and device; a
    tensor, since in an exported graph sizes are open. Linear interpolation, over as many pixels as become one where
    the picture shrinks: what ``F.interpolate`` does with ``antialias``.
    """
    pixels, places = (torch.arange(side, device=step.device).to(step.dtype) + 0.5 for side in (old, new))
    taps = (1 - (pixels - step * places[:, None]).abs() / step.clamp(min=1)).clamp(min=0)
    return taps / taps.sum(1, keepdim=True)


class AtShortSide(nn.Module):
    """A style encoder behind a scaling to the size in which artworks were learned: the size of strokes is style.

    ``encoder``: RGB float (1, 3, H, W), 0-1 -> its code (1, C). ``short_side``: in pixels.
    """

    def __init__(self, encoder: nn.Module, short_side: int) -> None:
        super().__init__()
        self.encoder, self.short_side = encoder, short_side

    def forward(self, picture: Tensor) -> Tensor:
        """RGB float (1, 3, H, W), 0-1, any size -> its code (C,)."""
        short = torch.sym_min(picture.shape[2], picture.shape[3])
        step = picture.new_tensor(1.0) * short / self.short_side  # pixels of the old that make a new one
        sides = picture.shape[2:]
        rows, columns = (resampling(side, side * self.short_side // short, step) for side in sides)
        code: Tensor = self.encoder(rows @ picture @ columns.T)[0]
        return code
