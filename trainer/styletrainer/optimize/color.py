"""Colours of the photo in a picture of another style, both ways of Gatys et al. 2017, "Preserving color in NST".

Pictures are RGB float (1, 3, H, W), about 0-1.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the Y of YIQ
_EPSILON = 1e-5


def luma(picture: Tensor) -> Tensor:
    """Brightness (1, 1, H, W)."""
    return (picture * picture.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def with_luma(photo: Tensor, brightness: Tensor) -> Tensor:
    """The photo's chroma (I and Q of YIQ) under ``brightness`` (1, 1, H, W); not clamped."""
    return photo + (brightness - luma(photo))


def matched_luma(artwork: Tensor, photo: Tensor) -> Tensor:
    """The artwork's brightness (1, 1, H', W') with the mean and contrast of the photo's."""
    of_artwork, of_photo = luma(artwork), luma(photo)
    contrast = of_photo.std(correction=0) / (of_artwork.std(correction=0) + _EPSILON)
    return (of_artwork - of_artwork.mean()) * contrast + of_photo.mean()


def matched_color(artwork: Tensor, photo: Tensor) -> Tensor:
    """The artwork with the mean and covariance of the photo's colours, by the map that changes them least."""
    colors, wanted = artwork[0].double().flatten(1), photo[0].double().flatten(1)
    mean = colors.mean(1, keepdim=True)
    change = _root(torch.cov(wanted, correction=0)) @ torch.linalg.inv(_root(torch.cov(colors, correction=0)))
    moved = change @ (colors - mean) + wanted.mean(1, keepdim=True)
    return moved.view_as(artwork).to(artwork.dtype)


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root; a grey picture's covariance, of rank one, is lifted to where it has an inverse."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * (values.clamp(min=0) + _EPSILON).sqrt()) @ vectors.T
