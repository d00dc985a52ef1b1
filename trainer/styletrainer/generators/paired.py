"""The mixed-centroid GAN's generator: encoder, a middle that a fused style descriptor modulates, decoder.

The descriptor, the code of a style, scales and shifts the normalised channels of every middle block (adaptive instance
normalisation, Huang & Belongie 2017). The decoder normalises nothing: it would take out what the middle put in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits
from styletrainer.pairs.descriptors import CHANNELS, Descriptor
from styletrainer.pairs.retrieval import Classes


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, padding_mode="reflect")


def _down(channels_in: int, channels_out: int, kernel: int, stride: int) -> list[nn.Module]:
    norm = nn.InstanceNorm2d(channels_out, affine=True)
    return [_conv(channels_in, channels_out, kernel, stride), norm, nn.ReLU()]


def _up(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2.0, mode="nearest"), _conv(channels_in, channels_out, 3), nn.ReLU()]


class _Modulated(nn.Module):
    """A residual block whose two normalisations take scale and shift from the code."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, channels, 3) for _ in range(2))
        self.scale_shift = nn.ModuleList(nn.Linear(code, 2 * channels) for _ in range(2))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Activations (N, C, H, W), code (N or 1, code) -> (N, C, H, W)."""
        y = x
        for number, (conv, linear) in enumerate(zip(self.convs, self.scale_shift, strict=True)):
            scale, shift = linear(code)[:, :, None, None].chunk(2, dim=1)
            y = F.instance_norm(conv(y)) * (1 + scale) + shift
            y = y.relu() if number == 0 else y
        return x + y


class Paired(nn.Module):
    """Encoder, modulated middle, decoder.

    Args:
        channels: of the stem; the levels have c, 2 c, 4 c.
        n_blocks: residual blocks in the middle.
        code: length of a style's code.
        styles: rows of the table of codes.
        classes: of photos, for the choice of a style by a photo's content.
        network: "vgg16" or "vgg19", which describes the photo for that choice.
    """

    stride = 4
    margin = 8  # a frame of one pixel is still wider than the reflected edge of the smallest level

    def __init__(
        self,
        channels: int = 32,
        n_blocks: int = 5,
        code: int = 32,
        styles: int = 1,
        classes: int = 8,
        network: str = "vgg16",
    ) -> None:
        if not 1 <= code <= CHANNELS:
            raise ValueError(f"code {code} is not in 1 to {CHANNELS}, the numbers of a local descriptor")
        super().__init__()
        c = channels
        self.code, self.styles = code, styles
        self.encode = nn.Sequential(*_down(3, c, 9, 1), *_down(c, 2 * c, 3, 2), *_down(2 * c, 4 * c, 3, 2))
        self.middle = nn.ModuleList(_Modulated(4 * c, code) for _ in range(n_blocks))
        self.decoder = nn.Sequential(*_up(4 * c, 2 * c), *_up(2 * c, c), _conv(c, 3, 9))
        self.register_buffer("table", torch.zeros(styles, code))
        # What the choice of a style needs, set from the data before the training.
        self.descriptor = Descriptor(network)
        self.register_buffer("descriptor_mean", torch.zeros(2 * CHANNELS))
        self.register_buffer("descriptor_scale", torch.ones(2 * CHANNELS))
        self.register_buffer("centroids", torch.zeros(classes, 2 * CHANNELS))
        self.register_buffer("class_styles", torch.zeros(classes, styles))

    @torch.no_grad()
    def remember(self, codes: Tensor, classes: Classes, class_styles: Sequence[int]) -> None:
        """Keep the styles' codes (S, C), and classes of photos with the number of the style that suits each."""
        self.get_buffer("table").copy_(codes)
        self.get_buffer("descriptor_mean").copy_(torch.from_numpy(classes.mean))
        self.get_buffer("descriptor_scale").copy_(torch.from_numpy(classes.scale))
        self.get_buffer("centroids").copy_(torch.from_numpy(classes.centroids))
        self.get_buffer("class_styles").copy_(torch.eye(self.styles)[list(class_styles)])

    def codes(self) -> Tensor:
        """Codes (S, C) of the named styles: the mean of the fused descriptors of each style's pairs."""
        return self.get_buffer("table")

    def chooser(self) -> nn.Module:
        """RGB float (1, 3, H, W), 0-1 -> the code (C,) of the style that suits the photo."""
        return _Chooser(self)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1, code (C,) or one a picture (N, C) -> RGB of the same shape, 0-1."""
        y, code = self.encode(2 * x - 1), style.reshape(-1, self.code)
        for block in self.middle:
            y = block(y, code)
        return 0.5 + 0.5 * self.decoder(y).tanh()

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 and code (C,) -> BGR 0-255."""
        return InFrameUnits(self)


class _Chooser(nn.Module):
    """The style of the class of photos whose centroid is nearest to the photo's descriptor."""

    def __init__(self, generator: Paired) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, photo: Tensor) -> Tensor:
        g = self.generator
        x = (g.descriptor(photo) - g.get_buffer("descriptor_mean")) / g.get_buffer("descriptor_scale")
        distances = (x[:, None] - g.get_buffer("centroids")).square().mean(2)
        # Of two classes as near the first wins. With the batch's axis: TensorRT takes no argmin of a vector.
        nearest = g.get_buffer("class_styles").index_select(0, distances.argmin(1))
        code: Tensor = (nearest @ g.codes())[0]
        return code
