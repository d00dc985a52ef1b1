"""The real-time family: plain convolutions on small grids, nothing per frame.

Training gives every 3x3 convolution three branches (3x3, 1x1, identity; RepVGG, Ding et al. 2021) and batch
normalisation (Ioffe & Szegedy 2015), whose statistics become constants: inference is the single convolution that all
of it equals, with nothing that could differ between frames or between tiles.

One network holds one style or several. With several, each has its own scale, shift and statistics in every layer
(conditional normalisation, Dumoulin et al. 2017); mixing weights mix what they amount to at inference.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.branches import BranchedConv, FoldedConv, start_smooth

Size = Literal["nano", "small", "base"]

# size -> channels at 1/4, channels at 1/8, 3x3 convolutions at 1/8, 3x3 convolutions at 1/4 after them
SIZES: dict[str, tuple[int, int, int, int]] = {
    "nano": (16, 32, 8, 1),
    "small": (32, 48, 12, 3),
    "base": (48, 64, 14, 3),
}


# Tensors with a row a style; the first of them learns, the others follow.
_PER_STYLE = ("affine", "mean", "variance")


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
        start_smooth(self.up, 2)
        start_smooth(self.out, 4)
        with torch.no_grad():
            self.out.affine[:, 1] = 0.5

    @property
    def reach(self) -> int:
        """Pixels to each side that an output pixel can depend on: half the receptive field."""
        _, _, depth, tail = SIZES[self.size]
        # Cells of 8 pixels: the trunk's, what the tail crosses, and the pixel's place in its own. 17: from the far
        # end of that cell (7) over the kernels of down (4 + 4 with enter) and stem (2).
        return 8 * (depth + tail // 2 + 1) + 17

    @property
    def context(self) -> int:
        """Pixels around a training crop, where the losses do not look.

        A quarter less than the reach: what lies further away has a tenth of the effect of what lies beyond 32 pixels.
        """
        return self.reach * 3 // 4 // self.stride * self.stride

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

    def parameters_of_last_style(self) -> Iterator[nn.Parameter]:
        """What learns when a style is added; other styles' rows in it never have their turn, and get no gradient."""
        return (parameter for name, parameter in self.named_parameters() if name.endswith("affine"))

    def grown(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """``weights`` of the same network with fewer styles, and for each style that it has more the mean of theirs."""
        grown = dict(weights)
        for name, own in self.state_dict().items():
            grows = name in weights and name.rpartition(".")[2] in _PER_STYLE
            if grows and (missing := own.shape[0] - weights[name].shape[0]) > 0:
                mean = weights[name].mean(0, keepdim=True)
                grown[name] = torch.cat([weights[name], mean.expand(missing, *mean.shape[1:])])
        return grown
