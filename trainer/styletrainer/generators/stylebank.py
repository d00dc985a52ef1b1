"""StyleBank (Chen, Yuan, Liao, Yu, Hua 2017): one auto-encoder for all styles, one bank of filters for each.

The encoder brings a photo to features at 1/4, a style's bank turns these into features of its strokes, the decoder
paints them. What all styles share is in the auto-encoder, which gives the photo back where no bank stands between;
so a style can be added later, and banks blend linearly, over the whole picture or region by region.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits

_SLOPE = 0.2  # of the leaky ReLU, below zero


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=bias, padding_mode="reflect")


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, instance normalisation (Ulyanov et al. 2016) with scale and shift, leaky ReLU.

    With the paper's ReLU, dark regions have no feature above zero: a bank sees and learns nothing there, and every
    style paints them in the same grey.
    """
    norm = nn.InstanceNorm2d(channels_out, affine=True)
    # No bias: normalisation takes it out again, and Adam would make large steps of its gradient's rounding errors.
    return [_conv(channels_in, channels_out, kernel, stride, bias=False), norm, nn.LeakyReLU(_SLOPE)]


class StyleBank(nn.Module):
    """Encoder of three convolutions, a bank a style, decoder of three convolutions; c, 2c, 4c ``channels``.

    The paper's strided transposed convolutions are nearest-neighbour ups before plain ones, which leave no
    checkerboard (Odena et al. 2016).

    Args:
        styles: number of banks.
        channels: c, of the first layer.
        bank_layers: 3x3 convolutions of a bank, each with instance normalisation and leaky ReLU.

    Raises:
        ValueError: one of them is less than 1.
    """

    stride = 4
    margin = 8  # a frame of one pixel is still wider than what the convolutions reflect

    def __init__(self, styles: int = 1, channels: int = 32, bank_layers: int = 2) -> None:
        super().__init__()
        if min(styles, channels, bank_layers) < 1:
            raise ValueError(f"got {styles} styles, {channels} channels, {bank_layers} bank layers; each is at least 1")
        self.styles = styles
        c = channels
        self.encoder = nn.Sequential(*_layer(3, c, 9), *_layer(c, 2 * c, 3, 2), *_layer(2 * c, 4 * c, 3, 2))
        self.banks = nn.ModuleList(
            nn.Sequential(*(module for _ in range(bank_layers) for module in _layer(4 * c, 4 * c, 3)))
            for _ in range(styles)
        )
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2.0), *_layer(4 * c, 2 * c, 3),
            nn.Upsample(scale_factor=2.0), *_layer(2 * c, c, 3),
            _conv(c, 3, 9),
        )  # fmt: skip

    def encode(self, photo: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> features (N, 4c, H/4, W/4)."""
        features: Tensor = self.encoder(2 * photo - 1)
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Features (N, 4c, H/4, W/4) -> RGB float (N, 3, H, W), about 0-1 (not clamped).

        Without the paper's tanh: where it saturates nothing is learned any more, and dark places stay black.
        """
        picture: Tensor = self.decoder(features)
        return 0.5 + 0.5 * picture

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, about 0-1.

        ``style``: float (S,), mixing weights with sum 1, where there are several styles.
        """
        features = self.encode(x)
        if style is None:
            assert self.styles == 1, "a network of several styles needs their weights"
            return self.decode(self.banks[0](features))
        return self.decode(self._mixed(features, style[:, None, None, None]))

    def paint(self, photo: Tensor, number: int) -> Tensor:
        """The photo in style ``number`` alone: ``forward`` of its one-hot weights, without running other banks."""
        return self.decode(self.banks[number](self.encode(photo)))

    def reconstruct(self, photo: Tensor) -> Tensor:
        """The photo through encoder and decoder, without a bank: the auto-encoder."""
        return self.decode(self.encode(photo))

    def blend(self, photo: Tensor, maps: Tensor) -> Tensor:
        """Each region of the photo in its own mixture of styles.

        ``photo`` RGB float (N, 3, H, W), 0-1; ``maps`` float (N, S, H, W), the styles' weights at every pixel, sum 1.
        A cell of features is mixed by the mean of the weights of its pixels.
        """
        return self.decode(self._mixed(self.encode(photo), F.avg_pool2d(maps, self.stride).transpose(0, 1)[:, :, None]))

    def _mixed(self, features: Tensor, weights: Tensor) -> Tensor:
        """Sum of the banks' features, times ``weights``, one a bank, that broadcast with (N, 4c, H/4, W/4)."""
        return reduce(torch.add, (weight * bank(features) for weight, bank in zip(weights, self.banks, strict=True)))

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255."""
        return InFrameUnits(self)

    def single(self, index: int) -> StyleBank:
        """The network of one of its styles alone, the same values; encoder and decoder are shared with this one."""
        single = StyleBank.__new__(StyleBank)
        nn.Module.__init__(single)
        single.styles = 1
        single.encoder, single.banks, single.decoder = self.encoder, self.banks[index : index + 1], self.decoder
        return single.train(self.training)

    def parameters_of_last_style(self) -> Iterator[nn.Parameter]:
        """What learns when a style is added: its bank."""
        return self.banks[-1].parameters()

    def grown(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """``weights`` of the same network with fewer styles, and this one's own banks for the styles that it has more.

        A new bank begins at random, as the first ones did.
        """
        new = {name: value for name, value in self.state_dict().items() if name.startswith("banks.")}
        return new | weights
