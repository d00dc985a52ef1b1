"""The test stage: how similar an output is to the picture that it should be."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor

from styletrainer.data.crops import rgb_from_tensor


def feature_similarity(output: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> float:
    """1 - the distance of activations {layer: (N, C, H, W)}, each position's scaled to length 1; 0-1, 1 for equal.

    The distance is that of LPIPS (Zhang et al. 2018) without its learned weights: the squared difference of vectors
    of length 1, halved. As activations are not negative, what is left is a cosine between 0 and 1.
    """
    found = []
    for layer, wanted in target.items():
        ours, theirs = F.normalize(output[layer].float(), dim=1), F.normalize(wanted.float(), dim=1)
        found.append(1 - (ours - theirs).square().sum(1).mean() / 2)
    return float(sum(found)) / len(found)


def ssim(output: Tensor, target: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of two pictures RGB (3, H, W), 0-1, as 8 bits show them; 1 for equal."""
    found = structural_similarity(
        rgb_from_tensor(output),
        rgb_from_tensor(target),
        channel_axis=2,
        gaussian_weights=True,  # this and the next line as in the paper
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(found)
