"""Losses of pairs: output against the one right picture, in units of that picture, means over pairs.

Pictures are RGB float (N, 3, H, W), 0-1; activations (N, C, H, W). Every loss is a mean over the pairs of what each has
by itself, so that a batch split over processes gives the same gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from styletrainer.losses import gram

_EPSILON = 1e-12


def pixel_loss(output: Tensor, target: Tensor, similarity: Tensor) -> Tensor:
    """Mean squared error over the target's mean square, weighted by ``similarity`` (N,), 0-1.

    The label is how far the target can be trusted to show the source: a pair of little confidence teaches little.
    """
    distance = (output - target).square().mean((1, 2, 3))
    return (similarity * distance / (_energy(target) + _EPSILON)).mean()


def important_loss(output: Tensor, target: Tensor, importance: Tensor) -> Tensor:
    """Small-object loss: squared error, each pixel counting as ``importance`` (N, 1, H, W), over the target's."""
    weights = importance / importance.mean((1, 2, 3), keepdim=True)
    distance = (weights * (output - target).square()).mean((1, 2, 3))
    return (distance / (_energy(target) + _EPSILON)).mean()


def gram_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of Gram matrices of activations (Gatys et al. 2016), over the target's mean square.

    As ``losses.style_loss``, but every pair has a target of its own.
    """
    wanted = gram(target)
    distance = (gram(output) - wanted).square().mean((1, 2))
    return (distance / (wanted.square().mean((1, 2)) + _EPSILON)).mean()


def mrf_loss(output: Tensor, style: Tensor, patch: int = 3, stride: int = 2) -> Tensor:
    """Squared distance of every patch of activations to the most alike of ``style`` (Li & Wand 2016).

    Alike is normalised cross-correlation; ``stride`` thins the patches of both out. Over the mean square of the
    chosen patches.
    """
    return torch.stack(
        [_mrf(_exact(o[None]), _exact(s[None]), patch, stride) for o, s in zip(output, style, strict=True)]
    ).mean()


def _mrf(output: Tensor, style: Tensor, patch: int, stride: int) -> Tensor:
    ours = F.unfold(output, patch, stride=stride)[0].T  # (patches, C * patch * patch)
    theirs = F.unfold(style, patch, stride=stride)[0].T
    with torch.no_grad():
        # The norm of ours is the same for all candidates.
        nearest = (ours @ F.normalize(theirs, dim=1).T).argmax(1)
    chosen = theirs[nearest]
    return (ours - chosen).square().mean() / (chosen.square().mean() + _EPSILON)


def _exact(x: Tensor) -> Tensor:
    """At least float32: a square of bf16 activations keeps two digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _energy(target: Tensor) -> Tensor:
    return target.square().mean((1, 2, 3))
