"""The reference network of the field: Johnson, Alahi, Fei-Fei 2016, as everybody ships it.

9x9 stem, two strided downs, residual blocks, two nearest-neighbour ups, instance norm throughout.
Used as the yardstick of the benchmarks and as a teacher; its statistics change with every frame.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits
from styletrainer.generators.residual import Conv, Residual, Upsample, conv_norm

_FLAT = 2.5  # from here on tanh is 0.99
_LEAK = 0.1  # of what is further out, in training


class Johnson(nn.Module):
    """Feed-forward stylizer with ``channels`` (c, 2c, 4c) and ``n_blocks`` residual blocks."""

    stride = 4
    margin = 0

    def __init__(self, channels: int = 32, n_blocks: int = 5) -> None:
        super().__init__()
        c = channels
        self.body = nn.Sequential(
            *conv_norm(3, c, 9), nn.ReLU(),
            *conv_norm(c, 2 * c, 3, 2), nn.ReLU(),
            *conv_norm(2 * c, 4 * c, 3, 2), nn.ReLU(),
            *(Residual(4 * c) for _ in range(n_blocks)),
            Upsample(), *conv_norm(4 * c, 2 * c, 3), nn.ReLU(),
            Upsample(), *conv_norm(2 * c, c, 3), nn.ReLU(),
            Conv(c, 3, 9),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, 0-1."""
        y = self.body(2 * x - 1)
        bounded = y.tanh()
        if self.training:
            # Where tanh is flat, all looks black to the losses and nothing pulls a spike of the features back. Instance
            # normalisation invites such spikes (the droplets of Karras et al. 2020); the rest is dark around them.
            bounded = bounded + _LEAK * F.softshrink(y, _FLAT)
        return 0.5 + 0.5 * bounded

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255."""
        return InFrameUnits(self)
