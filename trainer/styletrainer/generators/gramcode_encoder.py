"""The Gram-code stylizer's encoder: a picture's edges and texture beside its colours, through a residual network."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.residual import Conv, reflected

# Change per pixel along x; an eighth, so that a ramp of slope a has an edge of a.
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Under the square roots, whose slope at 0 is infinite: a hundredth of a step of 255, squared.
_EPSILON = 1e-9


def luma(picture: Tensor) -> Tensor:
    """RGB float (N, 3, H, W), 0-1 -> brightness (N, 1, H, W), 0-1."""
    weights = torch.tensor(_LUMA, dtype=picture.dtype, device=picture.device)
    return F.conv2d(picture, weights.view(1, 3, 1, 1))


def edge_map(brightness: Tensor) -> Tensor:
    """Magnitude of the Sobel gradient (Sobel & Feldman 1968), per pixel: (N, 1, H, W) -> (N, 1, H, W)."""
    across = torch.tensor(_SOBEL, dtype=brightness.dtype, device=brightness.device) / 8
    kernels = torch.stack([across, across.T])[:, None]
    gradient = F.conv2d(_with_edge(brightness), kernels)
    return (gradient.square().sum(1, keepdim=True) + _EPSILON).sqrt()


def texture_map(brightness: Tensor) -> Tensor:
    """Variance over 3x3 pixels: (N, 1, H, W) -> (N, 1, H, W).

    As the mean of squared differences to the mean: a difference of two means of squares has no digits left in half
    precision.
    """
    nine = torch.eye(9, dtype=brightness.dtype, device=brightness.device)
    return F.conv2d(_with_edge(brightness), (nine - 1 / 9).view(9, 1, 3, 3)).square().mean(1, keepdim=True)


def _with_edge(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")  # zeros would be an edge around every picture


class UnitConv(Conv):
    """Convolution whose kernels have the length ``gain``, whatever its weights have.

    What normalises comes behind the encoder, so nothing else keeps training from making features ever larger, layer by
    layer, until no half precision holds them. A norm here would take a style's contrast out of its Gram matrix.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__(channels_in, channels_out, kernel, stride)
        self.gain = gain

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # Conv2d's own name
        framed = reflected(input, int(self.padding[0]), self.training)
        return F.conv2d(framed, self.kernels(), self.bias, self.stride)

    def kernels(self) -> Tensor:
        """(O, I, k, k), each ``[o]`` of the length ``gain``."""
        return self.gain * F.normalize(self.weight.flatten(1), dim=1).view_as(self.weight)

    @torch.no_grad()
    def fold(self) -> Conv:
        """The same with constant kernels."""
        conv = Conv(self.in_channels, self.out_channels, self.kernel_size[0], self.stride[0])
        conv.weight.copy_(self.kernels())
        conv.bias.copy_(self.bias)  # type: ignore[union-attr, arg-type]
        return conv


class _Residual(nn.Module):
    """Residual block (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first: nn.Module = UnitConv(channels, channels, 3, gain=2**0.5)
        self.second: nn.Module = UnitConv(channels, channels, 3, gain=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Encoder(nn.Module):
    """Colours, edges and texture -> features at 1/2, 1/4, 1/8 of the size, and the picture's global descriptor.

    Args:
        widths: channels of the levels, fine to coarse.
        descriptor: length of the global descriptor.
    """

    def __init__(self, widths: tuple[int, ...], descriptor: int) -> None:
        super().__init__()
        self.colours: nn.Module = UnitConv(3, widths[0], 4, 2, gain=2**0.5)
        self.maps = Conv(2, widths[0], 3)
        self.downs = nn.ModuleList(UnitConv(a, b, 4, 2, gain=2**0.5) for a, b in pairwise(widths))
        nn.init.kaiming_normal_(self.maps.weight, nonlinearity="relu")
        self.blocks = nn.ModuleList(map(_Residual, widths))
        self.pooled = nn.Linear(sum(widths), descriptor)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """RGB float (N, 3, H, W), 0-1, sides multiples of 8 -> features (N, C, H', W') of every level."""
        # The maps at the size of the first level: a quarter of the work.
        brightness = F.avg_pool2d(luma(picture), 2)
        deviation = (texture_map(brightness) + _EPSILON).sqrt()  # in the unit of the others, or it would be too small
        # One convolution over colours and maps, in two parts.
        x = self.colours(2 * picture - 1) + self.maps(torch.cat([edge_map(brightness), deviation], 1))
        levels = [self.blocks[0](F.relu(x))]
        for down, block in zip(self.downs, self.blocks[1:], strict=True):  # type: ignore[arg-type]
            levels.append(block(F.relu(down(levels[-1]))))
        return levels

    def fold(self) -> Encoder:
        """The inference network: a copy with constant kernels."""
        folded = copy.deepcopy(self)
        folded.colours = self.colours.fold()  # type: ignore[operator]
        folded.downs = nn.ModuleList(down.fold() for down in self.downs)  # type: ignore[operator]
        for block in folded.blocks:
            block.first, block.second = block.first.fold(), block.second.fold()  # type: ignore[operator, union-attr]
        return folded

    def describe(self, levels: list[Tensor]) -> Tensor:
        """The global descriptor (N, D): means of all levels' channels, through one linear layer."""
        return self.pooled(torch.cat([level.mean((2, 3)) for level in levels], 1))
