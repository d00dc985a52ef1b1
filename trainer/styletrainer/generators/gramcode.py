"""The Gram-code stylizer: an encoder, a layer that makes a style code of Gram matrices, an LSTM-driven decoder.

The photo gives features; the style picture gives Gram matrices of the same encoder's features, whose strongest
channels are coded. From the code, an LSTM cell tells every convolution of the decoder its scale and shift.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.gramcode_decoder import Decoder, Modulation, RandomLayer
from styletrainer.generators.gramcode_encoder import Encoder
from styletrainer.generators.gramcode_style import StyleLayer
from styletrainer.generators.resampling import AtShortSide

NOISE = 64  # length of the noise vector
_HIDDEN = 64  # length of the LSTM's state, and of the photo's descriptor
_COLUMNS = 4  # of the style matrix
_NOISE_CHANNELS = 4


class GramCode(nn.Module):
    """Stylizer whose style is a code, of a known style or of any picture.

    Args:
        channels: of the finest level, at half size; the levels below have twice and four times as many.
        top: channels of a level whose correlations are coded; at most ``channels``.
        level_code: length of a level's part of the style code.
        styles: how many styles have their code in the table.
    """

    stride = 8
    margin = 32  # training shows no less around a crop, and does not look there

    def __init__(self, channels: int = 16, top: int = 12, level_code: int = 32, styles: int = 1) -> None:
        super().__init__()
        if not 1 <= top <= channels:
            raise ValueError(f"top {top} is not in 1 to channels, {channels}")
        if level_code < 2:
            raise ValueError(f"level_code {level_code} is less than 2")
        widths = (channels, 2 * channels, 4 * channels)
        self.styles, self.code = styles, len(widths) * level_code
        self.features = Encoder(widths, _HIDDEN)
        self.style_layer = StyleLayer(widths, top, level_code, _COLUMNS)
        self.random_layer = RandomLayer(NOISE, _NOISE_CHANNELS)
        self.modulation = Modulation(widths[::-1], _COLUMNS, _HIDDEN, _HIDDEN)
        self.decoder = Decoder(widths[::-1], _NOISE_CHANNELS)
        # Drawn once, and saved: a new one a frame would be flicker.
        self.register_buffer("noise", torch.randn(1, NOISE))
        self.register_buffer("table", torch.zeros(styles, self.code))
        self.register_buffer("short_side", torch.tensor(384))  # of the artworks that it learned

    def forward(self, x: Tensor, style: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, 0-1.

        ``style``: a code (C,) or one a picture (N, C); None takes the only one of the table. ``noise``: N(0, 1),
        (N, 64); None takes that of inference.
        """
        tile = self.random_layer.tile(self.get_buffer("noise") if noise is None else noise)
        return self.paint(x, self._one_style() if style is None else style, tile)

    def paint(self, x: Tensor, style: Tensor, tile: Tensor) -> Tensor:
        """``forward`` with a tile of the random layer, (N, 4, 16, 16) or one for all."""
        levels = self.features(x)
        codes = style.expand(x.shape[0], -1)
        matrix = self.style_layer.matrix(codes)
        changes = self.modulation(matrix[::-1], self.features.describe(levels))
        return self.decoder(RandomLayer.cover(tile, levels[-1]), levels[::-1], changes)

    def encode(self, picture: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1, any size -> style codes (N, C)."""
        height, width = picture.shape[2:]
        padded = F.pad(picture, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return self.style_layer.code(self.features(padded))

    def codes(self) -> Tensor:
        """The styles' codes (S, C)."""
        return self.get_buffer("table")

    @torch.no_grad()
    def remember(self, number: int, code: Tensor) -> None:
        """Write the code (C,) of style ``number`` into the table."""
        self.get_buffer("table")[number] = code

    def single(self, index: int) -> GramCode:
        """The network with the code of one of its styles alone in its table."""
        single = copy.deepcopy(self)
        single.styles, single.table = 1, self.codes()[index : index + 1].clone()
        return single

    def encoder(self) -> nn.Module:
        """RGB float (1, 3, H, W), 0-1, any size -> its code (C,): the picture in the size of training, encoded."""
        return AtShortSide(_StyleEncoder(self), int(self.get_buffer("short_side")))

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 and code (C,) -> BGR 0-255, with the noise map as a constant."""
        return _Folded(self)

    def _one_style(self) -> Tensor:
        assert self.styles == 1, "a network of several styles needs the code of one"
        return self.codes()[0]


class _StyleEncoder(nn.Module):
    """The part of the generator that makes a code of a picture; the decoder stays outside."""

    def __init__(self, generator: GramCode) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator).eval()
        self.generator.features = generator.features.fold()

    def forward(self, picture: Tensor) -> Tensor:
        return self.generator.encode(picture)


class _Folded(nn.Module):
    """BGR float (N, 3, H, W), 0-255, and a code (C,) -> BGR, 0-255."""

    def __init__(self, generator: GramCode) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator).eval()
        self.generator.features = generator.features.fold()
        self.generator.decoder.out = generator.decoder.out.fold()  # type: ignore[operator]
        self.stride, self.margin = generator.stride, generator.margin
        self.styles, self.code = generator.styles, generator.code
        with torch.no_grad():
            self.register_buffer("tile", generator.random_layer.tile(generator.get_buffer("noise")))

    def codes(self) -> Tensor:
        return self.generator.codes()

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        code = self.codes()[0] if style is None else style
        return self.generator.paint(x[:, [2, 1, 0]] * (1 / 255), code, self.get_buffer("tile"))[:, [2, 1, 0]] * 255
