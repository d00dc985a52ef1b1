"""The real-time family: plain convolutions on small grids, nothing per frame.

Training gives every 3x3 convolution three branches (3x3, 1x1, identity; RepVGG, Ding et al. 2021) and batch
normalisation (Ioffe & Szegedy 2015), whose statistics become constants: inference is the single convolution that all
of it equals, with nothing that could differ between frames or between tiles.

One network holds one style or several. With several, each has its own scale, shift and statistics in every layer
(conditional normalisation, Dumoulin et al. 2017); mixing weights mix what they amount to at inference.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

Size = Literal["nano", "small", "base"]

# size -> channels at 1/4, channels at 1/8, 3x3 convolutions at 1/8, 3x3 convolutions at 1/4 after them
SIZES: dict[str, tuple[int, int, int, int]] = {
    "nano": (16, 32, 8, 1),
    "small": (32, 48, 12, 3),
    "base": (48, 64, 14, 3),
}

_EPSILON = 1e-5
_MOMENTUM = 0.1  # of the running statistics


class BranchedConv(nn.Module):
    """Convolution of up to three branches, normalised, per style; ``fold`` makes it one Conv2d.

    Args:
        channels_in, channels_out, kernel, stride: as in ``nn.Conv2d``; padding keeps size / stride.
        residual: add the identity branch (needs equal channels and stride 1).
        gain: initial standard deviation of what the other branches give.
        styles: how many styles have a scale, a shift and statistics of their own.
        normalised: False for the layer that writes the picture, where ``gain`` is the norm of a filter.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        residual: bool = False,
        gain: float = 1.0,
        styles: int = 1,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.residual = stride, (kernel - stride + 1) // 2, residual
        # Of norm 1 from the start: Adam's steps have one size, and would be lost on larger numbers.
        direction = torch.randn(channels_out, channels_in, kernel, kernel)
        self.direction = nn.Parameter(_unit_filters(direction) * (1.0 if normalised else gain))
        self.point: nn.Parameter | None = None
        if kernel == 3 and stride == 1:
            self.point = nn.Parameter(torch.zeros(channels_out, channels_in, 1, 1))
        start = torch.tensor([gain if normalised else 1.0, 0.0])
        self.affine = nn.Parameter(start[:, None].repeat(styles, 1, channels_out))
        self.normalised = normalised
        if normalised:
            self.register_buffer("mean", torch.zeros(styles, channels_out))
            self.register_buffer("variance", torch.ones(styles, channels_out))

    def kernel(self) -> Tensor:
        """The kernel (out, in, k, k) of the branches with weights."""
        if self.point is None:
            return self.direction
        return self.direction + F.pad(self.point, (1, 1, 1, 1))

    def table(self) -> Tensor:
        """Scale and shift (S, 2, C) of every style at inference."""
        if not self.normalised:
            return self.affine
        scale = self.affine[:, 0] * (self.get_buffer("variance") + _EPSILON).rsqrt()
        return torch.stack([scale, self.affine[:, 1] - self.get_buffer("mean") * scale], 1)

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        """``style``: mixing weights (S,), sum 1; in training one of them is 1. None with one style."""
        # Adding kernels instead of feature maps: the same sum at a third of the cost.
        y = F.conv2d(x, self.kernel(), None, self.stride, self.padding)
        if self.training and self.normalised:
            y = self._normalise(y, style)
        else:
            scale, shift = _mixed(self.table(), style)
            y = y * scale.to(y.dtype) + shift.to(y.dtype)
        return x + y if self.residual else y

    def _normalise(self, y: Tensor, style: Tensor | None) -> Tensor:
        """Batch normalisation with the style's scale and shift; its running statistics follow."""
        scale, shift = (row.flatten() for row in _mixed(self.affine, style))
        if dist.is_initialized() and dist.get_world_size() > 1:
            out, mean, variance = _normalise_over_processes(y, scale, shift)
        else:
            out, mean, deviation = torch.native_batch_norm(y, scale, shift, None, None, True, 0.0, _EPSILON)
            variance = deviation.detach() ** -2 - _EPSILON
        with torch.no_grad():
            pace = _MOMENTUM if style is None else _MOMENTUM * style[:, None]
            for buffer, now in ((self.get_buffer("mean"), mean), (self.get_buffer("variance"), variance)):
                buffer.add_(pace * (now.detach() - buffer))
        return out

    @torch.no_grad()
    def fold(self, scale_in: float = 1.0, scale_out: float = 1.0) -> FoldedConv:
        """The single convolution, for inputs ``scale_in`` times as large and outputs ``scale_out`` times as large."""
        return FoldedConv(self, scale_in, scale_out)

    @torch.no_grad()
    def keep_style(self, index: int) -> None:
        """Forget all styles but one."""
        self.affine = nn.Parameter(self.affine[index : index + 1].clone())
        if self.normalised:
            self.mean, self.variance = (self.get_buffer(n)[index : index + 1].clone() for n in ("mean", "variance"))


class FoldedConv(nn.Conv2d):
    """What a BranchedConv equals at inference, with weights that half precision holds exactly.

    With one style the convolution is all there is. With several, their scales and shifts follow it, and the
    identity branch, which they do not touch.
    """

    def __init__(self, branched: BranchedConv, scale_in: float, scale_out: float) -> None:
        kernel, table = branched.kernel() * (scale_out / scale_in), branched.table()
        single = table.shape[0] == 1
        out_channels, in_channels, size, _ = kernel.shape
        super().__init__(in_channels, out_channels, size, branched.stride, branched.padding, bias=single)
        self.table, self.residual = None, branched.residual and not single
        if single:
            scale, shift = table[0]
            kernel = kernel * scale[:, None, None, None]
            if branched.residual:
                kernel = kernel + F.pad(torch.eye(out_channels)[:, :, None, None], (1, 1, 1, 1))
            assert self.bias is not None
            self.bias.copy_(shift * scale_out)
        else:
            self.table = nn.Parameter(table * torch.tensor([1.0, scale_out])[:, None])
        # Rounded here, and not by whoever stores or converts the file: all of them then compute the same.
        halved = kernel.half().float()
        self.weight.copy_(torch.where(halved.isfinite(), halved, kernel))  # what it cannot hold the export names

    def forward(self, input: Tensor, style: Tensor | None = None) -> Tensor:  # noqa: A002  # Conv2d's own name
        y = super().forward(input)
        if self.table is not None:
            scale, shift = _mixed(self.table, style)
            y = y * scale + shift
        return y + input if self.residual else y


def _mixed(table: Tensor, style: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scale and shift (1, C, 1, 1) of the mixture ``style`` (S,) of ``table`` (S, 2, C); None: there is but one."""
    if style is None:
        assert table.shape[0] == 1, "a network of several styles needs their weights"
        mixture = table.flatten(1)
    else:
        mixture = (style[:, None] * table.flatten(1)).sum(0)  # a product of matrices would be bf16 under autocast
    scale, shift = mixture.reshape(2, 1, -1, 1, 1)
    return scale, shift


def _normalise_over_processes(y: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation by the statistics of the whole global batch; and these, mean and variance (C,)."""
    wide, world = y.float(), dist.get_world_size()
    mean = all_reduce(wide.mean((0, 2, 3))) / world
    variance = all_reduce((wide - mean[:, None, None]).square().mean((0, 2, 3))) / world
    factor = scale * (variance + _EPSILON).rsqrt()
    out = wide * factor[:, None, None] + (shift - mean * factor)[:, None, None]
    return out.to(y.dtype), mean, variance


class Realtime(nn.Module):
    """Strided stem, a residual trunk at 1/8 with a skip at 1/4, one shuffle back to full size.

    The stem is space-to-depth 4 and its convolution in one (8x8, stride 4), which every runtime does
    faster than the two. Several 3x3 convolutions follow the last up-step, so that each output pixel
    depends on neighbouring cells.

    Args:
        size: ``nano``, ``small`` or ``base``; see ``SIZES``.
        styles: number of styles.
    """

    stride = 8
    margin = 32  # training shows it half the crops with a margin of repeated edge, so that it hides its border

    def __init__(self, size: Size = "small", styles: int = 1) -> None:
        super().__init__()
        self.size, self.styles = size, styles
        width, deep, depth, tail = SIZES[size]
        conv = partial(BranchedConv, styles=styles)
        self.stem = conv(3, width, 8, 4)
        self.enter = conv(width, width, residual=True, gain=0.5)
        self.down = conv(width, deep, 4, 2)
        self.trunk = nn.ModuleList(conv(deep, deep, residual=True, gain=depth**-0.5) for _ in range(depth))
        self.up = conv(deep, 4 * width, 1, gain=0.5)
        self.leave = nn.ModuleList(conv(width, width, residual=True, gain=0.5) for _ in range(tail))
        self.out = conv(width, 48, gain=0.2, normalised=False)
        _start_smooth(self.up, 2)
        _start_smooth(self.out, 4)
        with torch.no_grad():
            self.out.affine[:, 1] = 0.5

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
        assert isinstance(stem, FoldedConv) and isinstance(out, FoldedConv)
        stem.weight.copy_(stem.weight.flip(1))
        # Channels of a shuffle are colour by colour, sixteen sub-pixels each.
        out.weight.copy_(out.weight.reshape(3, 16, -1).flip(0).reshape(out.weight.shape))
        if out.bias is not None:
            out.bias.copy_(out.bias.reshape(3, 16).flip(0).flatten())
        if out.table is not None:
            out.table.copy_(out.table.reshape(-1, 2, 3, 16).flip(2).flatten(2))
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
    # One factor for all, so that the sub-pixels' sums stay equal: the norm is kept on average.
    conv.direction.copy_(kernel * (conv.direction.square().sum() / kernel.square().sum()).sqrt())
