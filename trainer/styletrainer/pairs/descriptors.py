"""What a picture is by a VGG: local activations, and their global statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.errors import TrainError
from styletrainer.generators.resampling import resampling
from styletrainer.perceptual import NETWORKS, VGG, Weights, blank_weights

LAYER = "relu3_3"  # the same in VGG-16 and VGG-19
CHANNELS = 256
_SIDE = 112  # pixels that the network sees: a descriptor is of what is in a picture, not of its resolution


class Descriptor(nn.Module):
    """Descriptors of pictures of any size, from ``network`` ("vgg16", "vgg19"); its weights are loaded later."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.blocks = NETWORKS[network].blocks
        self.vgg = VGG(blank_weights(network, LAYER), self.blocks)

    def load(self, weight_sets: Sequence[Weights]) -> None:
        """Take the network's weights from what ``perceptual.load_weight_sets`` has read."""
        weights = next((w for w in weight_sets if "features.0.weight" in w), {})
        found = VGG(weights, self.blocks)
        if LAYER not in found.layers:
            raise TrainError(
                f"got: weights without {LAYER}, which describes pictures; expected: a VGG file up to there.\n"
                "Do this: give a deeper file, or none to download it."
            )
        whole = found.state_dict()
        self.vgg.load_state_dict({name: whole[name] for name in self.vgg.state_dict()})

    def activations(self, picture: Tensor) -> Tensor:
        """RGB (N, 3, H, W), 0-1, any size, squeezed to a square -> (N, 256, 28, 28)."""
        return self.vgg(squeezed(picture), [LAYER])[LAYER]

    def forward(self, picture: Tensor) -> Tensor:
        """RGB (N, 3, H, W), 0-1 -> global descriptors (N, 512)."""
        return global_descriptor(self.activations(picture))


def squeezed(picture: Tensor) -> Tensor:
    """RGB (N, 3, H, W) -> (N, 3, 112, 112), each pixel the mean of all that it stands for: nothing of it aliases."""
    rows, columns = (resampling(side, _SIDE, picture.new_tensor(1.0) * side / _SIDE) for side in picture.shape[2:])
    return rows @ picture @ columns.T


def local_descriptors(activations: Tensor) -> Tensor:
    """Activations (N, 256, 28, 28) -> (N, 196, 256), each the mean over a cell of the picture."""
    return F.avg_pool2d(activations, 2).flatten(2).transpose(1, 2)


def global_descriptor(activations: Tensor) -> Tensor:
    """Activations (N, 256, 28, 28) -> (N, 512): mean and deviation of every channel, over their mean.

    The statistics that instance normalisation takes out (Huang & Belongie 2017), no Gram matrix. A photo of little
    contrast is like the same photo of much.
    """
    positions = activations.flatten(2)
    mean = positions.mean(2)
    deviation = ((positions - mean[:, :, None]).square().mean(2) + 1e-6).sqrt()
    statistics = torch.cat([mean, deviation], 1)
    return statistics / statistics.mean(1, keepdim=True)
