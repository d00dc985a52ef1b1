"""The real-time family: plain convolutions on small grids, nothing per frame.

Training gives every 3x3 convolution three branches (3x3, 1x1, identity; RepVGG, Ding et al. 2021) over
normalised weights (Salimans & Kingma 2016), which trains well without any normalisation layer: there
are no statistics to differ between training and inference, between frames, or between tiles. ``fold``
turns each into the single convolution that it equals.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = Literal["nano", "small", "base"]

# size -> channels at 1/4, channels at 1/8, 3x3 convolutions at 1/8, 3x3 convolutions at 1/4 after them
SIZES: dict[str, tuple[int, int, int, int]] = {
    "nano": (16, 32, 8, 1),
    "small": (32, 48, 12, 3),
    "base": (48, 96, 14, 3),
}


class BranchedConv(nn.Module):
    """Convolution of up to three branches over normalised weights; ``fold`` makes it one Conv2d.

    Args:
        channels_in, channels_out, kernel, stride: as in ``nn.Conv2d``; padding keeps size / stride.
        residual: add the identity branch (needs equal channels and stride 1).
        gain: initial norm of each filter.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        residual: bool = False,
        gain: float = 1.4,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.residual = stride, (kernel - stride + 1) // 2, residual
        # Of norm 1 from the start: Adam's steps have one size, and would be lost on larger numbers.
        direction = torch.randn(channels_out, channels_in, kernel, kernel)
        self.direction = nn.Parameter(_unit_filters(direction))
        self.gain = nn.Parameter(torch.full((channels_out, 1, 1, 1), gain))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.point: nn.Parameter | None = None
        if kernel == 3 and stride == 1:
            self.point = nn.Parameter(torch.zeros(channels_out, channels_in, 1, 1))

    def kernel(self) -> Tensor:
        """The single kernel (out, in, k, k) that the branches add up to."""
        kernel = _unit_filters(self.direction) * self.gain
        if self.point is not None:
            kernel = kernel + F.pad(self.point, (1, 1, 1, 1))
        if self.residual:
            eye = torch.eye(kernel.shape[0], device=kernel.device, dtype=kernel.dtype)
            kernel = kernel + F.pad(eye[:, :, None, None], (1, 1, 1, 1))
        return kernel

    def forward(self, x: Tensor) -> Tensor:
        # Adding kernels instead of feature maps: the same sum at a third of the cost.
        return F.conv2d(x, self.kernel(), self.bias, self.stride, self.padding)

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        kernel = self.kernel()
        out_channels, in_channels, size, _ = kernel.shape
        conv = nn.Conv2d(in_channels, out_channels, size, self.stride, self.padding)
        conv.weight.copy_(kernel)
        conv.bias.copy_(self.bias)  # type: ignore[union-attr]
        return conv


class Realtime(nn.Module):
    """Strided stem, a residual trunk at 1/8 with a skip at 1/4, one shuffle back to full size.

    The stem is space-to-depth 4 and its convolution in one (8x8, stride 4), which every runtime does
    faster than the two. Several 3x3 convolutions follow the last up-step, so that each output pixel
    depends on neighbouring cells.

    Args:
        size: ``nano``, ``small`` or ``base``; see ``SIZES``.
    """

    stride = 8
    margin = 64  # what the zero padding of the trunk reaches; less leaves a frame on dark and on even pictures

    def __init__(self, size: Size = "small") -> None:
        super().__init__()
        width, deep, depth, tail = SIZES[size]
        self.stem = BranchedConv(3, width, 8, 4)
        self.enter = BranchedConv(width, width, residual=True, gain=0.5)
        self.down = BranchedConv(width, deep, 4, 2)
        self.trunk = nn.ModuleList(BranchedConv(deep, deep, residual=True, gain=depth**-0.5) for _ in range(depth))
        self.up = BranchedConv(deep, 4 * width, 1, gain=0.5)
        self.leave = nn.ModuleList(BranchedConv(width, width, residual=True, gain=0.5) for _ in range(tail))
        self.out = BranchedConv(width, 48, gain=0.2)
        _start_smooth(self.up, 2)
        _start_smooth(self.out, 4)
        with torch.no_grad():
            self.out.bias.fill_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, about 0-1 (not clamped)."""
        skip = F.relu(self.enter(F.relu(self.stem(x))))
        y = F.relu(self.down(skip))
        for conv in self.trunk:
            y = F.relu(conv(y))
        y = F.relu(F.pixel_shuffle(self.up(y), 2) + skip)
        for conv in self.leave:
            y = F.relu(conv(y))
        return F.pixel_shuffle(self.out(y), 4)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255: one plain Conv2d a layer, same values.

        Colour order and scale go into the first and the last convolution, where they cost nothing.
        """
        folded = Realtime.__new__(Realtime)
        nn.Module.__init__(folded)
        for name, module in self.named_children():
            if isinstance(module, BranchedConv):
                folded.add_module(name, module.fold())
            elif isinstance(module, nn.ModuleList):
                folded.add_module(name, nn.ModuleList(conv.fold() for conv in module))  # type: ignore[operator]
        stem, out = folded.get_submodule("stem"), folded.get_submodule("out")
        assert isinstance(stem, nn.Conv2d) and isinstance(out, nn.Conv2d) and out.bias is not None
        stem.weight.copy_(stem.weight.flip(1) / 255)
        # Channels of a shuffle are colour by colour, sixteen sub-pixels each.
        out.weight.copy_(out.weight.reshape(3, -1).flip(0).reshape(out.weight.shape) * 255)
        out.bias.copy_(out.bias.reshape(3, -1).flip(0).flatten() * 255)
        return folded.eval()


def _unit_filters(weight: Tensor) -> Tensor:
    return weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()


@torch.no_grad()
def _start_smooth(conv: BranchedConv, scale: int) -> None:
    """Make a pixel shuffle by ``scale`` start as an interpolation of one coarse picture: no grid at step 0.

    A 1x1 convolution starts as nearest neighbour (ICNR, Aitken et al. 2017), a 3x3 one as bilinear.
    """
    coarse = conv.direction.mean((2, 3))[:: scale * scale]
    offset = (torch.arange(scale) + 0.5) / scale - 0.5  # of each sub-pixel from the middle of its cell
    taps = (1 - (offset[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)
    if conv.direction.shape[2] == 1:
        taps = torch.ones(scale, 1)
    kernel = torch.einsum("oc,iy,jx->oijcyx", coarse, taps, taps).reshape(conv.direction.shape)
    # Not of norm 1 each: the sub-pixels' sums must stay equal.
    conv.gain.copy_(
        conv.gain * kernel.square().sum((1, 2, 3), keepdim=True).sqrt() / coarse.square().sum(1).mean().sqrt()
    )
    conv.direction.copy_(_unit_filters(kernel))
