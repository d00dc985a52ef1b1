"""What surrounds a generator: the margin that hides its border, and the units of a frame."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def with_margin(generator: nn.Module, photo: Tensor) -> Tensor:
    """Run ``generator`` on ``photo`` of any size: edges replicated by its margin and to its stride, then cropped."""
    height, width = photo.shape[2:]
    stride, near = int(generator.stride), int(generator.margin)  # type: ignore[arg-type]
    right, bottom = near + -width % stride, near + -height % stride
    styled: Tensor = generator(F.pad(photo, (near, right, near, bottom), mode="replicate"))
    return styled[:, :, near : near + height, near : near + width]


class InFrameUnits(nn.Module):
    """BGR float (N, 3, H, W), 0-255 -> the same, around a generator of RGB 0-1."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator.eval()
        self.stride, self.margin = generator.stride, generator.margin

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.generator(x[:, [2, 1, 0]] * (1 / 255))[:, [2, 1, 0]] * 255
        return out
