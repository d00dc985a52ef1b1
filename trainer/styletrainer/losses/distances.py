"""How far an output is from its own item's style picture: means and deviations of activations, Gram matrices.

Both distances are over the squares of the two together: 0 is the same style, 1 is a blank. Over the style's alone,
a flat picture would outweigh all others of its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from styletrainer.losses import gram

_EPSILON = 1e-5


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (N, C) over the picture, of activations (N, C, H, W); float32 or better.

    A deviation is never below 0.003, so that its gradient is finite where a channel is flat.
    """
    wide = features if features.dtype == torch.float64 else features.float()
    variance, mean = torch.var_mean(wide, (2, 3), correction=0)
    return mean, (variance + _EPSILON).sqrt()


def moment_loss(output: Tensor, style: Tensor) -> Tensor:
    """Squared distance of means and deviations (Huang & Belongie 2017, eq. 13), relative.

    Activations (N, C, H, W) of the output and of each item's style picture, which may be of another size.
    """
    return _relative(torch.cat(moments(output), 1), torch.cat(moments(style), 1))


def gram_loss(output: Tensor, style: Tensor) -> Tensor:
    """Squared distance of Gram matrices (Gatys et al. 2016), relative; ``style``: one an item, (N, C, C).

    ``output`` (N, C, H, W) activations.
    """
    return _relative(gram(output).flatten(1), style.flatten(1))


def _relative(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared distance (N, K) over both squares, item by item; the squares are constants to the gradient."""
    scale = ours.detach().square().mean(1) + theirs.square().mean(1) + 1e-12
    return ((ours - theirs).square().mean(1) / scale).mean()
