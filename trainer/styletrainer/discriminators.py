"""Discriminators: which patches of a picture look painted."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchGAN(nn.Module):
    """70x70 PatchGAN (Isola et al. 2017): one logit per overlapping patch.

    Spectral normalisation (Miyato et al. 2018) in place of batch norm: the critic sees few real
    pictures, and its statistics would tell real from fake batches.

    Args:
        channels: of the first layer; doubled three times.
        strided: strided layers; 3 gives the 70x70 receptive field, 2 gives 34x34.
        inputs: channels of what is judged; 6 for a photo and a picture of it (the conditional critic).
    """

    def __init__(self, channels: int = 64, strided: int = 3, inputs: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in, width = inputs, channels
        for _ in range(strided):
            layers += [spectral_norm(nn.Conv2d(width_in, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
            width_in, width = width, min(2 * width, 8 * channels)
        layers += [spectral_norm(nn.Conv2d(width_in, width, 4, 1, 1)), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(width, 1, 4, 1, 1)))
        self.body = nn.Sequential(*layers)

    def forward(self, picture: Tensor) -> Tensor:
        """RGB float (N, inputs, H, W), 0-1 -> logits (N, 1, H', W')."""
        out: Tensor = self.body(2 * picture - 1)
        return out
