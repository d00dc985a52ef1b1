"""UNIT's generators (Liu et al. 2017): an encoder and a decoder a domain, joined by what all of them share.

Encoder: 7x7 stem, two strided downs, residual blocks. Decoder: residual blocks, two nearest-neighbour ups, 7x7 head.
The residual blocks next to the latent are the same for both domains: what they say there means the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from styletrainer.generators.frame_units import InFrameUnits
from styletrainer.generators.residual import Conv, Residual, Upsample, conv_norm


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class Encoder(nn.Module):
    """A picture to the mean of its latent; the latent's variance is 1."""

    def __init__(self, channels: int, n_blocks: int, shared: nn.Module) -> None:
        super().__init__()
        c = channels
        self.own = nn.Sequential(
            *conv_norm(3, c, 7), nn.ReLU(),
            *conv_norm(c, 2 * c, 3, 2), nn.ReLU(),
            *conv_norm(2 * c, 4 * c, 3, 2), nn.ReLU(),
            _blocks(4 * c, n_blocks),
        )  # fmt: skip
        self.shared = shared

    def forward(self, picture: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> (N, 4c, H/4, W/4)."""
        mean: Tensor = self.shared(self.own(2 * picture - 1))
        return mean


class Decoder(nn.Module):
    """A latent to a picture."""

    def __init__(self, channels: int, n_blocks: int, shared: nn.Module) -> None:
        super().__init__()
        c = channels
        self.shared = shared
        self.own = nn.Sequential(
            _blocks(4 * c, n_blocks),
            Upsample(), *conv_norm(4 * c, 2 * c, 5), nn.ReLU(),
            Upsample(), *conv_norm(2 * c, c, 5), nn.ReLU(),
            Conv(c, 3, 7),
        )  # fmt: skip

    def forward(self, latent: Tensor) -> Tensor:
        """(N, 4c, H/4, W/4) -> RGB float (N, 3, H, W), 0-1."""
        return 0.5 + 0.5 * torch.tanh(self.own(self.shared(latent)))


class Unit(nn.Module):
    """Encoder of one domain, decoder of the other.

    Args:
        channels: c; the levels have c, 2c, 4c, the latent 4c.
        n_blocks: residual blocks of each half that are its domain's own.
        shared: residual blocks of each half that both domains share, next to the latent; at least 1.
    """

    stride = 4
    margin = 0

    def __init__(self, channels: int = 32, n_blocks: int = 3, shared: int = 1) -> None:
        super().__init__()
        if shared < 1:
            raise ValueError(f"shared: got {shared}, expected at least 1, or the domains have no latent in common")
        self.channels, self.n_blocks = channels, n_blocks
        self.encoder = Encoder(channels, n_blocks, _blocks(4 * channels, shared))
        self.decoder = Decoder(channels, n_blocks, _blocks(4 * channels, shared))

    def counterpart(self) -> Unit:
        """The way back: encoder of the other domain, decoder of this one, the shared blocks those of this network."""
        back = Unit.__new__(Unit)
        nn.Module.__init__(back)
        back.channels, back.n_blocks = self.channels, self.n_blocks
        back.encoder = Encoder(self.channels, self.n_blocks, self.encoder.shared)
        back.decoder = Decoder(self.channels, self.n_blocks, self.decoder.shared)
        return back

    def forward(self, picture: Tensor) -> Tensor:
        """RGB float (N, 3, H, W), 0-1 -> the same shape, 0-1, by the latent's mean."""
        out: Tensor = self.decoder(self.encoder(picture))
        return out

    def fold(self) -> nn.Module:
        """The inference network, BGR 0-255 -> BGR 0-255."""
        return InFrameUnits(self)
