"""The reference network of the field: Johnson, Alahi, Fei-Fei 2016, as everybody ships it.

9x9 stem, two strided downs, residual blocks, two nearest-neighbour ups, instance norm throughout.
Used as the yardstick of the benchmarks and as a teacher; its statistics change with every frame.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits


class _Reflected(torch.autograd.Function):
    """Pictures with ``edge`` more pixels on every side, reflected; the same as ``F.pad(mode="reflect")``.

    PyTorch's own keeps neither bf16 nor channels last, and with its copies takes longer than the convolution.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, edge: int) -> Tensor:  # type: ignore[override]
        ctx.edge = edge
        for axis in (2, 3):
            first, last = x.narrow(axis, 1, edge), x.narrow(axis, x.shape[axis] - 1 - edge, edge)
            x = torch.cat([first.flip(axis), x, last.flip(axis)], axis)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        edge = ctx.edge
        for axis in (3, 2):
            size = gradient.shape[axis] - 2 * edge
            first, inner, last = gradient.split([edge, size, edge], axis)
            gradient = inner.clone()
            gradient.narrow(axis, 1, edge).add_(first.flip(axis))
            gradient.narrow(axis, size - 1 - edge, edge).add_(last.flip(axis))
        return gradient, None


class _Conv(nn.Conv2d):
    """Convolution behind a reflected edge."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, kernel // 2, padding_mode="reflect")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # Conv2d's own name
        if not self.training:
            return super().forward(input)
        reflected: Tensor = _Reflected.apply(input, self.kernel_size[0] // 2)  # type: ignore[no-untyped-call]
        return F.conv2d(reflected, self.weight, self.bias, self.stride)


class _InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016) with scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # InstanceNorm2d's own name
        if not self.training:
            return super().forward(input)
        # Picture by picture as batches of one: that keeps bf16 and channels last, too.
        pictures = (F.batch_norm(x, None, None, self.weight, self.bias, True, eps=self.eps) for x in input.split(1))
        return torch.cat(list(pictures))


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [_Conv(channels_in, channels_out, kernel, stride), _InstanceNorm(channels_out)]


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
            _Conv(c, 3, 9),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, 0-1."""
        return 0.5 + 0.5 * self.body(2 * x - 1).tanh()

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255."""
        return InFrameUnits(self)
