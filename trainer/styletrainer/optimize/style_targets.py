"""What one picture is optimised towards: a photo's content, and artworks' Gram matrices, everywhere or by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from styletrainer import losses
from styletrainer.perceptual import Perceptual
from styletrainer.recipe import Terms

Layers = Mapping[str, float]


@dataclass(frozen=True)
class Artwork:
    """One style: its picture RGB float (1, 3, H, W), 0-1, how much of it, and where it counts.

    ``place`` is its region of the photo (1, 1, H, W), 0-1, ``part`` the region of the artwork that it is taken from.
    """

    picture: Tensor
    weight: float = 1.0
    place: Tensor | None = None
    part: Tensor | None = None


@dataclass(frozen=True)
class Region:
    """Where, and how much, an output's Gram matrices shall be ``grams`` (1, C, C) by layer."""

    place: Tensor | None  # (1, 1, H, W), 0-1; None: everywhere
    share: float
    grams: Terms


@dataclass(frozen=True)
class Objective:
    """The loss of a picture against one photo and some artworks, in units of its targets."""

    perceptual: Perceptual
    content_layers: Layers
    style_layers: Layers
    content: Terms  # the photo's activations
    regions: Sequence[Region]

    def terms(self, picture: Tensor) -> Terms:
        """Unweighted losses of RGB (1, 3, H, W), about 0-1; ``range`` is the mean square of what leaves 0-1."""
        found = self.perceptual(picture)
        content = [w * losses.content_loss(found[x], self.content[x]) for x, w in self.content_layers.items()]
        style = [
            weight * region.share * losses.style_loss(guided(found[layer], region.place), region.grams[layer])
            for layer, weight in self.style_layers.items()
            for region in self.regions
        ]
        return {
            "content": torch.stack(content).sum(),
            "style": torch.stack(style).sum(),
            "tv": losses.total_variation(picture),
            "range": (picture - picture.clamp(0, 1)).square().mean(),
        }


@torch.no_grad()
def objective(
    perceptual: Perceptual, photo: Tensor, artworks: Sequence[Artwork], content_layers: Layers, style_layers: Layers
) -> Objective:
    """The targets of ``photo``, RGB (1, 3, H, W), 0-1, and of artworks in the size that their strokes shall have."""
    content = perceptual(photo, content_layers)
    return Objective(perceptual, content_layers, style_layers, content, _regions(perceptual, artworks, style_layers))


def guided(features: Tensor, mask: Tensor | None) -> Tensor:
    """Activations whose Gram matrix is the region's: guided Gram matrices (Gatys et al. 2017, "Controlling factors").

    ``mask`` (1, 1, H, W), 0-1, is averaged to the layer's size; the Gram matrix of a region has the scale of that of a
    whole picture, whatever its area.
    """
    if mask is None:
        return features
    small = F.interpolate(mask, size=features.shape[2:], mode="area")
    return features * (small / small.square().mean().sqrt()).to(features.dtype)


def _regions(perceptual: Perceptual, artworks: Sequence[Artwork], layers: Layers) -> list[Region]:
    """A region an artwork; without places one, whose Gram matrices are the weighted mean of the artworks'."""
    grams: list[Terms] = []
    for artwork in artworks:
        found = perceptual(artwork.picture, layers)
        grams.append({layer: losses.gram(guided(found[layer], artwork.part)) for layer in layers})
    total = sum(artwork.weight for artwork in artworks)
    parts = [artwork.weight / total for artwork in artworks]
    if all(artwork.place is None for artwork in artworks):
        mean = {x: torch.stack([w * g[x] for w, g in zip(parts, grams, strict=True)]).sum(0) for x in layers}
        return [Region(None, 1.0, mean)]
    # By area: a pixel of a small region is drawn to its style as much as one of a large.
    areas = [1.0 if artwork.place is None else float(artwork.place.mean()) for artwork in artworks]
    return [
        Region(artwork.place, len(artworks) * weight * area, of_artwork)
        for artwork, weight, area, of_artwork in zip(artworks, parts, areas, grams, strict=True)
    ]
