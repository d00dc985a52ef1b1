"""The cross-domain generator: any artwork's style at run time (arbitrary style transfer, Huang & Belongie 2017).

A content encoder whose features know nothing of colours and contrast, a style encoder that turns a picture into a
code, a transfer module that paints the content in the style of the code by adaptive instance normalisation (AdaIN),
and a decoder. The code is an input: it is computed once an artwork, and codes mix.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.branches import smooth_kernel
from styletrainer.generators.frame_units import InFrameUnits
from styletrainer.generators.resampling import AtShortSide
from styletrainer.generators.residual import Conv
from styletrainer.losses.distances import moments

_EPSILON = 1e-5
_LEVELS = (32, 64, 96, 128)  # channels of the style encoder at 1/2, 1/4, 1/8, 1/16


def adain(content: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Adaptive instance normalisation (Huang & Belongie 2017): every channel gets this mean and standard deviation.

    ``content`` (N, C, H, W); ``mean`` and ``deviation`` (N, C), or (1, C) for all of the batch.
    """
    normalised = F.instance_norm(content, eps=_EPSILON)
    return normalised * deviation[:, :, None, None].to(content.dtype) + mean[:, :, None, None].to(content.dtype)


class ContentEncoder(nn.Module):
    """What is in the picture: RGB (N, 3, H, W), 0-1 -> features (N, deep, H/8, W/8), and (N, width, H/4, W/4).

    Instance normalisation (Ulyanov et al. 2016) takes colour and contrast away: these are style.
    """

    def __init__(self, width: int, deep: int) -> None:
        super().__init__()
        self.stem = Conv(3, width, 8, 4, bias=False)
        self.enter = Conv(width, width, 3, bias=False)
        self.down = Conv(width, deep, 4, 2, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        near = F.relu(F.instance_norm(self.stem(2 * x - 1), eps=_EPSILON))
        near = F.relu(F.instance_norm(self.enter(near), eps=_EPSILON) + near)
        return F.relu(F.instance_norm(self.down(near), eps=_EPSILON)), near


class StyleEncoder(nn.Module):
    """How a picture is painted: RGB (N, 3, H, W), 0-1, H and W from 64 -> codes (N, code), mean 0 and variance 1.

    All that it keeps of a picture are means and deviations over it, of its colours and of four levels of
    features, so that a crop, the whole, and its mirror image have nearly the same code.
    """

    def __init__(self, code: int) -> None:
        super().__init__()
        widths = (3, *_LEVELS)
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.mix = nn.Linear(2 * (9 + sum(_LEVELS)), 2 * code)
        self.code = nn.Linear(2 * code, code)

    def forward(self, picture: Tensor) -> Tensor:
        x = 2 * picture - 1
        # Products of two channels: their means are how colours go together.
        others = torch.stack([x[:, 1], x[:, 2], x[:, 0]], 1)
        found = [*moments(torch.cat([x, x.square(), x * others], 1))]
        for level in self.levels:
            x = F.relu(level(x))
            both = torch.cat(moments(x), 1)
            found.append(F.layer_norm(both, both.shape[1:]))
        mixed = F.relu(self.mix(torch.cat(found, 1)))
        return F.layer_norm(self.code(mixed), (self.code.out_features,))


class StyledConv(Conv):
    """Convolution, then AdaIN: its mean and deviation are linear in the code, so that mixed codes mix them."""

    def __init__(self, channels_in: int, channels_out: int, code: int, kernel: int = 3, gain: float = 1.0) -> None:
        super().__init__(channels_in, channels_out, kernel, bias=False)
        self.style = nn.Linear(code, 2 * channels_out)
        with torch.no_grad():
            self.style.weight.mul_(gain)
            self.style.bias.copy_(torch.tensor([0.0, gain]).repeat_interleave(channels_out))

    def forward(self, input: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]  # noqa: A002
        mean, deviation = self.style(code.reshape(-1, self.style.in_features)).chunk(2, 1)
        return adain(super().forward(input), mean, deviation)


class StyleTransferModule(nn.Module):
    """Content features (N, C, H, W) and a code (code,), or one an item (N, code) -> features in that style."""

    def __init__(self, channels: int, code: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StyledConv(channels, channels, code, gain=depth**-0.5) for _ in range(depth))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x, code) + x)
        return x


class Decoder(nn.Module):
    """Features at 1/8 and those at 1/4 -> RGB (N, 3, H, W), about 0-1; its layers too know the style."""

    def __init__(self, width: int, deep: int, code: int, depth: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(deep, 4 * width, 1)
        self.merge = StyledConv(width, width, code)
        self.layers = nn.ModuleList(StyledConv(width, width, code, gain=0.5) for _ in range(depth))
        self.out = Conv(width, 48, 3)
        with torch.no_grad():
            self.up.weight.copy_(smooth_kernel(self.up.weight, 2))
            self.out.weight.copy_(smooth_kernel(self.out.weight, 4))
            self.out.bias.fill_(0.5)  # type: ignore[union-attr]

    def forward(self, x: Tensor, near: Tensor, code: Tensor) -> Tensor:
        y = F.relu(self.merge(F.pixel_shuffle(self.up(x), 2) + near, code))
        for layer in self.layers:
            y = F.relu(layer(y, code) + y)
        return F.pixel_shuffle(self.out(y), 4)


class CrossDomain(nn.Module):
    """The four modules in one; ``style`` is a code.

    Args:
        code: length of the style code.
        width, deep: channels at 1/4 and at 1/8 of the size.
        depth: AdaIN layers of the transfer module at 1/8.
        tail: AdaIN layers of the decoder at 1/4, after the one that merges.
        styles: how many named styles there are, whose codes ``codes`` has.
    """

    stride = 8
    margin = 32

    def __init__(
        self, code: int = 128, width: int = 48, deep: int = 96, depth: int = 8, tail: int = 2, styles: int = 1
    ) -> None:
        super().__init__()
        self.code, self.styles = code, styles
        self.content = ContentEncoder(width, deep)
        self.style = StyleEncoder(code)
        self.transfer = StyleTransferModule(deep, code, depth)
        self.decoder = Decoder(width, deep, code, tail)
        self.register_buffer("named", torch.zeros(styles, code))
        self.register_buffer("short_side", torch.tensor(384))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, about 0-1 (not clamped).

        ``style``: a code (code,) of ``encoder`` or a mixture of some, or one an item (N, code).
        """
        content, near = self.content(x)
        return self.decoder(self.transfer(content, style), near, style)

    def codes(self) -> Tensor:
        """Codes (S, code) of the named styles, as training left them."""
        return self.get_buffer("named")

    def encoder(self) -> nn.Module:
        """RGB float (1, 3, H, W), 0-1, any size -> its code (code,): the picture in the size of training, encoded."""
        return AtShortSide(self.style.eval(), int(self.get_buffer("short_side")))

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 and a code -> BGR 0-255."""
        return InFrameUnits(self)
