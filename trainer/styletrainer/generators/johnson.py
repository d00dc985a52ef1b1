"""The reference network of the field: Johnson, Alahi, Fei-Fei 2016, as everybody ships it.

9x9 stem, two strided downs, residual blocks, two nearest-neighbour ups, instance norm throughout.
Used as the yardstick of the benchmarks and as a teacher; its statistics change with every frame.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, padding_mode="reflect"),
        nn.InstanceNorm2d(channels_out, affine=True),
    ]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, channels, 3), nn.ReLU(), *_conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class _Upsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Johnson(nn.Module):
    """Feed-forward stylizer with ``channels`` (c, 2c, 4c) and ``n_blocks`` residual blocks."""

    stride = 4
    margin = 0

    def __init__(self, channels: int = 32, n_blocks: int = 5) -> None:
        super().__init__()
        c = channels
        self.body = nn.Sequential(
            *_conv(3, c, 9), nn.ReLU(),
            *_conv(c, 2 * c, 3, 2), nn.ReLU(),
            *_conv(2 * c, 4 * c, 3, 2), nn.ReLU(),
            *(_Residual(4 * c) for _ in range(n_blocks)),
            _Upsample(), *_conv(4 * c, 2 * c, 3), nn.ReLU(),
            _Upsample(), *_conv(2 * c, c, 3), nn.ReLU(),
            nn.Conv2d(c, 3, 9, padding=4, padding_mode="reflect"),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, 0-1."""
        return 0.5 + 0.5 * self.body(2 * x - 1).tanh()

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255."""
        return InFrameUnits(self)
