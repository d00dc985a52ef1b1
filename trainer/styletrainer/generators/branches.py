"""A convolution that trains as several branches with normalisation, and runs as one.

Three branches (3x3, 1x1, identity; RepVGG, Ding et al. 2021) and batch normalisation (Ioffe & Szegedy 2015) whose
statistics become constants. Every style has its own scale, shift and statistics (Dumoulin et al. 2017).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

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
        if self.training and self.normalised:
            y = self._normalise(F.conv2d(x, self.kernel(), None, self.stride, self.padding), style)
        else:
            scale, shift = (row.flatten() for row in _mixed(self.table(), style))
            y = F.conv2d(x, self.kernel() * scale[:, None, None, None], shift, self.stride, self.padding)
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


def _unit_filters(weight: Tensor) -> Tensor:
    return weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()


@torch.no_grad()
def start_smooth(conv: BranchedConv, scale: int) -> None:
    """Make a pixel shuffle by ``scale`` start as an interpolation of one coarse picture: no grid at step 0.

    A 1x1 convolution starts as nearest neighbour (ICNR, Aitken et al. 2017), a 3x3 one as bilinear.
    """
    conv.direction.copy_(smooth_kernel(conv.direction, scale))


def smooth_kernel(kernel: Tensor, scale: int) -> Tensor:
    """A kernel (3 or more x scale^2, in, k, k) before a shuffle by ``scale`` as an interpolation; k is 1 or 3."""
    coarse = kernel.mean((2, 3))[:: scale * scale]
    offset = (torch.arange(scale) + 0.5) / scale - 0.5  # of each sub-pixel from the middle of its cell
    taps = (1 - (offset[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)
    if kernel.shape[2] == 1:
        taps = torch.ones(scale, 1)
    smooth = torch.einsum("oc,iy,jx->oijcyx", coarse, taps, taps).reshape(kernel.shape)
    # One factor for all, so that the sub-pixels' sums stay equal: the norm is kept on average.
    return smooth * (kernel.square().sum() / smooth.square().sum()).sqrt()
