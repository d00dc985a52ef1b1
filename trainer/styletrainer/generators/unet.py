"""The hybrid GAN's generator: a U-Net with a residual middle (after Isola et al. 2017).

7x7 stem, three strided downs, residual blocks at 8 x ngf, three transposed-convolution ups that each
take the skip of their level by concatenation, 7x7 head, tanh.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits

Norm = Literal["instance", "batch", "none"]
Padding = Literal["reflect", "replicate", "zeros"]

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "batch": nn.BatchNorm2d,
    "none": nn.Identity,
}


class _Residual(nn.Module):
    def __init__(self, channels: int, norm: Norm, padding: Padding, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding),
            _NORMS[norm](channels),
            nn.ReLU(),
        ]
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers += [
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding),
            _NORMS[norm](channels),
        ]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class UNet(nn.Module):
    """U-Net stylizer.

    Args:
        ngf: channels of the stem; the levels have ngf, 2 ngf, 4 ngf, 8 ngf.
        n_blocks: residual blocks in the middle.
        norm: ``instance``, ``batch`` or ``none``.
        padding: padding mode of the stride-1 convolutions.
        dropout: probability inside the residual blocks, 0 for none.
        noise: feed one channel of N(0, 1) beside the photo, so that a photo has many renderings.
    """

    stride = 8
    margin = 8  # a frame of one pixel still fills the smallest level

    def __init__(
        self,
        ngf: int = 64,
        n_blocks: int = 6,
        norm: Norm = "instance",
        padding: Padding = "reflect",
        dropout: float = 0.0,
        noise: bool = False,
    ) -> None:
        super().__init__()
        self.noise = noise
        widths = [ngf, 2 * ngf, 4 * ngf, 8 * ngf]
        stem = nn.Conv2d(3 + noise, ngf, 7, padding=3, padding_mode=padding)
        self.stem = nn.Sequential(stem, _NORMS[norm](ngf), nn.ReLU())
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), _NORMS[norm](b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.middle = nn.Sequential(*(_Residual(8 * ngf, norm, padding, dropout) for _ in range(n_blocks)))
        # Each up but the first takes the concatenation of what lies below and its level's skip.
        inputs = [8 * ngf, 8 * ngf, 4 * ngf]
        outputs = [4 * ngf, 2 * ngf, ngf]
        self.ups = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 3, 2, 1, 1), _NORMS[norm](b), nn.ReLU())
            for a, b in zip(inputs, outputs, strict=True)
        )
        self.head = nn.Conv2d(2 * ngf, 3, 7, padding=3, padding_mode=padding)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, 0-1. ``z``: N(0, 1), (N, 1, H, W)."""
        y = 2 * x - 1
        if self.noise:
            y = torch.cat([y, torch.randn_like(x[:, :1]) if z is None else z], dim=1)
        skips = [self.stem(y)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        y = self.middle(skips.pop())
        for up in self.ups:
            y = torch.cat([up(y), skips.pop()], dim=1)
        return 0.5 + 0.5 * torch.tanh(self.head(y))

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255; with noise, the rendering of z = 0."""
        return InFrameUnits(_MeanRendering(self) if self.noise else self)


class _MeanRendering(nn.Module):
    """A frame has one rendering: noise in a live picture would be flicker."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet
        self.stride, self.margin = unet.stride, unet.margin

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.unet(x, torch.zeros_like(x[:, :1]))
        return out
