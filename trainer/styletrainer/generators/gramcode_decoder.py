"""The Gram-code stylizer's decoder: an LSTM cell tells every convolution how to paint, coarse to fine."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.residual import Conv

UNITS = 3  # modulated convolutions a level
_TILE = 16  # cells of 8 pixels, after which the noise repeats

Change = tuple[Tensor, Tensor]  # scale and shift, each (N, C)


class RandomLayer(nn.Module):
    """Noise vector -> spatial map: one linear layer paints a tile, which covers the picture from its top left."""

    def __init__(self, noise: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.paint = nn.Linear(noise, channels * _TILE * _TILE)

    def tile(self, noise: Tensor) -> Tensor:
        """Noise (N, Z) -> a tile (N, channels, 16, 16)."""
        return self.paint(noise).unflatten(1, (self.channels, _TILE, _TILE))

    @staticmethod
    def cover(tile: Tensor, like: Tensor) -> Tensor:
        """The tile (N, C, 16, 16), or (1, C, 16, 16), side by side over the size of ``like`` (N, _, H, W)."""
        height, width = like.shape[2:]
        # No negative numbers: ONNX divides towards zero.
        rows, columns = (height + _TILE - 1) // _TILE, (width + _TILE - 1) // _TILE
        covered = tile.repeat(1, 1, rows, columns)[:, :, :height, :width]
        return covered.expand(like.shape[0], -1, -1, -1)


class Modulation(nn.Module):
    """LSTM cell (Hochreiter & Schmidhuber 1997) over the convolutions of the decoder, coarse to fine.

    It reads the photo's descriptor at every step. On entering a level, the level's style vector is added to its
    state through a linear layer: at the coarsest level, before which there is none, that is the state it begins with.

    Args:
        widths: channels of the levels, coarse to fine.
        columns: of the style matrix.
        descriptor: length of the photo's descriptor.
        hidden: length of the cell's state.
    """

    def __init__(self, widths: tuple[int, ...], columns: int, descriptor: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(descriptor, hidden)
        self.enter = nn.ModuleList(nn.Linear(width * columns, 2 * hidden) for width in widths)
        self.tell = nn.ModuleList(nn.Linear(hidden, 2 * width) for width in widths for _ in range(UNITS))

    def forward(self, matrix: list[Tensor], descriptor: Tensor) -> list[Change]:
        """Style matrix (N, C, columns) a level, coarse to fine, and descriptor (N, D) -> every unit's change."""
        changes: list[Change] = []
        state: Change | None = None
        for number, (enter, rows) in enumerate(zip(self.enter, matrix, strict=True)):
            hidden, memory = enter(rows.flatten(1)).chunk(2, 1)
            if state is not None:
                hidden, memory = state[0] + hidden, state[1] + memory
            for tell in self.tell[UNITS * number : UNITS * (number + 1)]:
                hidden, memory = self.cell(descriptor, (hidden, memory))
                scale, shift = tell(hidden).chunk(2, 1)
                changes.append((scale, shift))
            state = hidden, memory
        return changes


class _Modulated(nn.Module):
    """Convolution, instance normalisation, scale and shift from outside (AdaIN, Huang & Belongie 2017), ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = Conv(channels_in, channels_out, 3, bias=False)  # the norm would take it away
        self.norm = nn.InstanceNorm2d(channels_out)

    def forward(self, x: Tensor, change: Change) -> Tensor:
        scale, shift = (part[:, :, None, None] for part in change)
        return F.relu(self.norm(self.conv(x)) * (1 + scale) + shift)


class _Level(nn.Module):
    """Three modulated convolutions: the first joins what comes from below and the photo's features."""

    def __init__(self, below: int, width: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(_Modulated(below + width if n == 0 else width, width) for n in range(UNITS))

    def forward(self, below: Tensor, features: Tensor, changes: list[Change]) -> Tensor:
        join, first, second = self.units
        y = join(torch.cat([below, features], 1), changes[0])
        return y + second(first(y, changes[1]), changes[2])


def _doubled(x: Tensor) -> Tensor:
    """Nearest neighbour, twice the size: as a shuffle, since TensorRT sizes no Resize behind a repeated tile."""
    n, channels, height, width = x.shape
    four = x[:, :, None].expand(n, channels, 4, height, width)
    return F.pixel_shuffle(four.flatten(1, 2), 2)


class DoubledConv(nn.Conv2d):
    """3x3 convolution of its input at twice the size (nearest neighbour): no mesh to unlearn, as a shuffle has.

    Computed on the small grid, with the kernel that each of a cell's four pixels amounts to there.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        # Of a cell's first and second pixel: which of three taps falls on the cell before, on it, on the one after.
        taps = torch.tensor([[[1.0, 0, 0], [0, 1, 1], [0, 0, 0]], [[0.0, 0, 0], [1, 1, 0], [0, 0, 1]]])
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # Conv2d's own name
        return F.pixel_shuffle(F.conv2d(input, *self.small(), padding=1), 2)

    def small(self) -> tuple[Tensor, Tensor]:
        """Kernel (4 O, I, 3, 3) and bias (4 O,) on the small grid."""
        taps = self.get_buffer("taps")
        kernel = torch.einsum("oiyx,ahy,bwx->oabihw", self.weight, taps, taps).flatten(0, 2)
        assert self.bias is not None
        return kernel, self.bias.repeat_interleave(4)

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """The same with a constant kernel."""
        kernel, bias = self.small()
        conv = nn.Conv2d(self.in_channels, 4 * self.out_channels, 3, padding=1)
        conv.weight.copy_(kernel)
        conv.bias.copy_(bias)  # type: ignore[union-attr]
        return nn.Sequential(conv, nn.PixelShuffle(2))


class Decoder(nn.Module):
    """Noise map, photo features and their modulation -> the picture.

    Args:
        widths: channels of the levels, coarse to fine.
        noise: channels of the noise map.
    """

    def __init__(self, widths: tuple[int, ...], noise: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_Level(noise if n == 0 else width, width) for n, width in enumerate(widths))
        # To the next level's width on the coarse grid, where it costs a quarter.
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(widths))
        self.out: nn.Module = DoubledConv(widths[-1], 3)

    def forward(self, noise: Tensor, features: list[Tensor], changes: list[Change]) -> Tensor:
        """Noise map, features coarse to fine, changes of every unit -> RGB (N, 3, H, W), 0-1."""
        y = noise
        for number, level in enumerate(self.levels):
            if number:
                y = _doubled(self.narrow[number - 1](y))
            y = level(y, features[number], changes[UNITS * number : UNITS * (number + 1)])
        return 0.5 + 0.5 * torch.tanh(self.out(y))
