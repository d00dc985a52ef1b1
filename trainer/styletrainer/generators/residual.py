"""The parts that residual networks are made of: convolutions behind a reflected edge, instance normalisation, ups."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def reflected(x: Tensor, edge: int, training: bool) -> Tensor:
    """Pictures with ``edge`` more pixels on every side, reflected; in training faster, of the same value."""
    if not training:
        return F.pad(x, (edge,) * 4, mode="reflect")
    found: Tensor = _Reflected.apply(x, edge)  # type: ignore[no-untyped-call]
    return found


class Conv(nn.Conv2d):
    """Convolution behind a reflected edge.

    Zeros around the features of every layer tell a network where its picture ends, and it paints a frame there.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        # An even one reaches as far before the pixels that its stride passes as behind them.
        edge = kernel // 2 if kernel % 2 else (kernel - stride) // 2
        super().__init__(channels_in, channels_out, kernel, stride, edge, bias=bias, padding_mode="reflect")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # Conv2d's own name
        framed = reflected(input, int(self.padding[0]), self.training)
        return F.conv2d(framed, self.weight, self.bias, self.stride)


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


def conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution and its normalisation, to be unpacked into a sequence."""
    return [Conv(channels_in, channels_out, kernel, stride), _InstanceNorm(channels_out)]


class Residual(nn.Module):
    """Two convolutions whose result is added to what goes in: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm(channels, channels, 3), nn.ReLU(), *conv_norm(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Upsample(nn.Module):
    """Twice the size, of the nearest pixel: (N, C, H, W) -> (N, C, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
