"""The real-time family: plain convolutions on small grids, nothing per frame.

One network holds one style or several. With several, every convolution's output is scaled and shifted per
channel by the style's own numbers (conditional affine parameters; Dumoulin et al. 2017, here without the
normalisation before it); weights of a mixture mix the numbers.

Training gives every 3x3 convolution three branches (3x3, 1x1, identity; RepVGG, Ding et al. 2021) over
normalised weights (Salimans & Kingma 2016), which trains well without any normalisation layer: there
are no statistics to differ between training and inference, between frames, or between tiles. ``fold``
turns each into the single convolution that it equals.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = Literal["nano", "small", "base"]

# size -> channels at 1/4, channels at 1/8, 3x3 convolutions at 1/8, 3x3 convolutions at 1/4 after them
SIZES: dict[str, tuple[int, int, int, int]] = {
    "nano": (16, 32, 8, 1),
    "small": (32, 48, 12, 3),
    "base": (48, 64, 14, 3),
}


class BranchedConv(nn.Module):
    """Convolution of up to three branches over normalised weights; ``fold`` makes it one Conv2d.

    Args:
        channels_in, channels_out, kernel, stride: as in ``nn.Conv2d``; padding keeps size / stride.
        residual: add the identity branch (needs equal channels and stride 1).
        gain: initial norm of each filter.
        styles: how many styles have a scale and a shift of their own; 0 for none.
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
        styles: int = 0,
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
        self.affine: nn.Parameter | None = None
        if styles:
            self.affine = nn.Parameter(torch.tensor([1.0, 0.0])[:, None].repeat(styles, 1, channels_out))

    def kernel(self) -> Tensor:
        """The single kernel (out, in, k, k) that the branches add up to."""
        kernel = _unit_filters(self.direction) * self.gain
        if self.point is not None:
            kernel = kernel + F.pad(self.point, (1, 1, 1, 1))
        if self.residual:
            eye = torch.eye(kernel.shape[0], device=kernel.device, dtype=kernel.dtype)
            kernel = kernel + F.pad(eye[:, :, None, None], (1, 1, 1, 1))
        return kernel

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        """``style``: mixing weights (S,), sum 1, of a network of several styles."""
        # Adding kernels instead of feature maps: the same sum at a third of the cost.
        return _affine(F.conv2d(x, self.kernel(), self.bias, self.stride, self.padding), self.affine, style)

    @torch.no_grad()
    def fold(self, scale_in: float = 1.0, scale_out: float = 1.0) -> FoldedConv:
        """The single convolution, for inputs ``scale_in`` times as large and outputs ``scale_out`` times as large."""
        return FoldedConv(self, scale_in, scale_out)

    @torch.no_grad()
    def keep_style(self, index: int) -> None:
        """Take the scale and shift of one style into the branches; nothing per style is left."""
        if self.affine is None:
            return
        scale, shift = self.affine[index]
        self.affine = None
        self.gain.mul_(scale[:, None, None, None])
        self.bias.mul_(scale).add_(shift)
        if self.point is not None:
            self.point.mul_(scale[:, None, None, None])
            if self.residual:  # the identity branch has no weight: its change goes into the 1x1 branch
                self.point.add_(torch.diag(scale - 1)[:, :, None, None])


class FoldedConv(nn.Conv2d):
    """What a BranchedConv equals at inference, with weights that half precision holds exactly."""

    def __init__(self, branched: BranchedConv, scale_in: float, scale_out: float) -> None:
        kernel = branched.kernel()
        super().__init__(kernel.shape[1], kernel.shape[0], kernel.shape[2], branched.stride, branched.padding)
        # Rounded here, and not by whoever stores or converts the file: all of them then compute the same.
        kernel = kernel * (scale_out / scale_in)
        halved = kernel.half().float()
        self.weight.copy_(torch.where(halved.isfinite(), halved, kernel))  # what it cannot hold the export names
        assert self.bias is not None
        self.bias.copy_(branched.bias * scale_out)
        self.affine = None
        if branched.affine is not None:
            self.affine = nn.Parameter(branched.affine * torch.tensor([1.0, scale_out])[:, None])

    def forward(self, input: Tensor, style: Tensor | None = None) -> Tensor:  # noqa: A002  # Conv2d's own name
        return _affine(super().forward(input), self.affine, style)


def _affine(x: Tensor, table: Tensor | None, style: Tensor | None) -> Tensor:
    """``x`` (N, C, H, W) scaled and shifted by the mixture of ``table`` (S, 2, C)."""
    if table is None:
        return x
    assert style is not None, "a network of several styles needs their weights"
    scale, shift = (style[None] @ table.flatten(1)).reshape(2, -1, 1, 1)
    return x * scale.to(x.dtype) + shift.to(x.dtype)


class Realtime(nn.Module):
    """Strided stem, a residual trunk at 1/8 with a skip at 1/4, one shuffle back to full size.

    The stem is space-to-depth 4 and its convolution in one (8x8, stride 4), which every runtime does
    faster than the two. Several 3x3 convolutions follow the last up-step, so that each output pixel
    depends on neighbouring cells.

    Args:
        size: ``nano``, ``small`` or ``base``; see ``SIZES``.
        styles: number of styles; 1 has no parameters per style.
    """

    stride = 8
    margin = 32  # training shows it half the crops with a margin of repeated edge, so that it hides its border

    def __init__(self, size: Size = "small", styles: int = 1) -> None:
        super().__init__()
        self.size, self.styles = size, styles
        width, deep, depth, tail = SIZES[size]
        conv = partial(BranchedConv, styles=styles if styles > 1 else 0)
        self.stem = conv(3, width, 8, 4)
        self.enter = conv(width, width, residual=True, gain=0.5)
        self.down = conv(width, deep, 4, 2)
        self.trunk = nn.ModuleList(conv(deep, deep, residual=True, gain=depth**-0.5) for _ in range(depth))
        self.up = conv(deep, 4 * width, 1, gain=0.5)
        self.leave = nn.ModuleList(conv(width, width, residual=True, gain=0.5) for _ in range(tail))
        self.out = conv(width, 48, gain=0.2)
        _start_smooth(self.up, 2)
        _start_smooth(self.out, 4)
        with torch.no_grad():
            self.out.bias.fill_(0.5)

    @property
    def reach(self) -> int:
        """Pixels to each side that an output pixel can depend on: half the receptive field."""
        _, _, depth, tail = SIZES[self.size]
        # Cells of 8 pixels: the trunk's, what the tail crosses, and the pixel's place in its own. 17: from the far
        # end of that cell (7) over the kernels of down (4 + 4 with enter) and stem (2).
        return 8 * (depth + tail // 2 + 1) + 17

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, about 0-1 (not clamped).

        ``style``: float (S,), mixing weights with sum 1, where there are several styles.
        """
        skip = F.relu(self.enter(F.relu(self.stem(x, style)), style))
        y = F.relu(self.down(skip, style))
        for conv in self.trunk:
            y = F.relu(conv(y, style))
        y = F.relu(F.pixel_shuffle(self.up(y, style), 2) + skip)
        for conv in self.leave:
            y = F.relu(conv(y, style))
        return F.pixel_shuffle(self.out(y, style), 4)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255: one plain convolution a layer, same values.

        Colour order and scale go into the first and the last convolution, where they cost nothing. Weights
        are rounded to half precision.
        """
        folded = Realtime.__new__(Realtime)
        nn.Module.__init__(folded)
        folded.size, folded.styles = self.size, self.styles
        for name, module in self.named_children():
            if isinstance(module, BranchedConv):
                scale_in, scale_out = 255 if name == "stem" else 1, 255 if name == "out" else 1
                folded.add_module(name, module.fold(scale_in, scale_out))
            elif isinstance(module, nn.ModuleList):
                folded.add_module(name, nn.ModuleList(conv.fold() for conv in module))  # type: ignore[operator]
        stem, out = folded.get_submodule("stem"), folded.get_submodule("out")
        assert isinstance(stem, FoldedConv) and isinstance(out, FoldedConv) and out.bias is not None
        stem.weight.copy_(stem.weight.flip(1))
        # Channels of a shuffle are colour by colour, sixteen sub-pixels each.
        for tensor in (out.weight, out.bias):
            tensor.copy_(tensor.reshape(3, 16, -1).flip(0).reshape(tensor.shape))
        if out.affine is not None:
            out.affine.copy_(out.affine.reshape(self.styles, 2, 3, 16).flip(2).flatten(2))
        return folded.eval()

    def single(self, index: int) -> Realtime:
        """The network of one of its styles alone, the same values, without parameters per style."""
        single = copy.deepcopy(self)
        single.styles = 1
        for module in single.modules():
            if isinstance(module, BranchedConv):
                module.keep_style(index)
        return single


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
