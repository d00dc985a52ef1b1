"""Discriminators: which patches of a picture look painted."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def least_size(strided: int) -> int:
    """Pixels a side that a PatchGAN of so many strided layers needs: 3 are left for the two layers behind them."""
    return 3 << max(strided, 0)


class PatchGAN(nn.Module):
    """70x70 PatchGAN (Isola et al. 2017): one logit per overlapping patch.

    Spectral normalisation (Miyato et al. 2018) in place of batch norm: the critic sees few real
    pictures, and its statistics would tell real from fake batches.

    Args:
        channels: of the first layer; doubled three times.
        strided: strided layers; 3 gives the 70x70 receptive field, 2 gives 34x34.
        channels_in: of what is judged; 6 for a photo and a picture of it (the conditional critic).
    """

    def __init__(self, channels: int = 64, strided: int = 3, channels_in: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in, width = channels_in, channels
        for _ in range(strided):
            layers += [spectral_norm(nn.Conv2d(width_in, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
            width_in, width = width, min(2 * width, 8 * channels)
        layers += [spectral_norm(nn.Conv2d(width_in, width, 4, 1, 1)), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(width, 1, 4, 1, 1)))
        self.body = nn.Sequential(*layers)

    def forward(self, picture: Tensor) -> Tensor:
        """RGB float (N, channels_in, H, W), 0-1 -> logits (N, 1, H', W')."""
        out: Tensor = self.body(2 * picture - 1)
        return out


class MultiScalePatch(nn.Module):
    """A PatchGAN for the picture, one for its half, and so on (Wang et al. 2018, pix2pixHD): strokes and their order.

    Args:
        channels, strided, channels_in: of each PatchGAN.
        scales: how many there are.
    """

    def __init__(self, channels: int = 64, strided: int = 3, scales: int = 2, channels_in: int = 3) -> None:
        super().__init__()
        self.critics = nn.ModuleList(PatchGAN(channels, strided, channels_in) for _ in range(scales))

    def forward(self, picture: Tensor) -> list[Tensor]:
        """RGB float (N, channels_in, H, W), 0-1 -> logits (N, 1, H', W') of every scale, the finest first."""
        found = []
        for number, critic in enumerate(self.critics):
            if number:
                picture = F.avg_pool2d(picture, 2)
            found.append(critic(picture))
        return found
