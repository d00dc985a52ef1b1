"""What surrounds a generator: the margin that hides its border, and the units of a frame."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def with_margin(generator: nn.Module, photo: Tensor, style: Tensor | None = None) -> Tensor:
    """Run ``generator`` on ``photo`` of any size: edges replicated by its margin and to its stride, then cropped.

    ``style``: mixing weights (S,) for a generator of several styles, or the code (C,) of one.
    """
    height, width = photo.shape[2:]
    stride, near = int(generator.stride), int(generator.margin)  # type: ignore[arg-type]
    right, bottom = near + -width % stride, near + -height % stride
    padded = F.pad(photo, (near, right, near, bottom), mode="replicate")
    styled: Tensor = generator(padded) if style is None else generator(padded, style)
    return styled[:, :, near : near + height, near : near + width]


class InFrameUnits(nn.Module):
    """BGR float (N, 3, H, W), 0-255 -> the same, around a generator of RGB 0-1, which gets ``style`` as it is."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator.eval()
        self.stride, self.margin = generator.stride, generator.margin

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        photo = x[:, [2, 1, 0]] * (1 / 255)
        styled: Tensor = self.generator(photo) if style is None else self.generator(photo, style)
        return styled[:, [2, 1, 0]] * 255
