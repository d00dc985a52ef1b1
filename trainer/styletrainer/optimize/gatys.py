"""Style transfer by optimising the pixels of one picture (Gatys et al. 2016), coarse to fine.

VGG-19, content conv4_2, style conv1_1 … conv5_1, total variation. The pixels are free, and what leaves 0-1 costs its
square: clamping them stops L-BFGS, whose line search needs a slope, and a sigmoid greys out what is white or black.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from styletrainer.data.crops import Picture, scaled, tensor_from_rgb
from styletrainer.errors import TrainError
from styletrainer.optimize import color
from styletrainer.optimize.pixel_search import Optimizer, PixelSearch
from styletrainer.optimize.style_targets import Artwork, Layers, Objective, objective
from styletrainer.perceptual import Perceptual, Weights, available_layers
from styletrainer.recipe import Terms

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
# The paper's first; what stands in for it where the weights stop before. relu3_3 before relu4_1, which is then the slim
# network's estimate: faces stay faces by the one and not by the other.
CONTENT_LAYERS = ("relu4_2", "relu3_3", "relu4_1", "relu2_2", "relu1_2", "relu1_1")
RANGE_WEIGHT = 100.0
_COARSEST = 128  # pixels of the long side: below it nothing of an artwork's composition is left
_SHORTEST = 32  # pixels of the short side: two of relu5_1's


@dataclass(frozen=True)
class Settings:
    """What decides the look. Weights multiply losses in units of their targets."""

    size: int = 384  # pixels, long side of the result
    steps: int = 100  # iterations of the optimiser at every scale
    optimizer: Optimizer = "lbfgs"
    start: Literal["photo", "noise"] = "photo"
    color: Literal["artwork", "luma", "match"] = "artwork"  # the photo's: of its chroma, or of the artwork beforehand
    content_weight: float = 1.0
    style_weight: float = 10.0
    tv_weight: float = 5.0
    seed: int = 0  # of the noise
    tick: int = 10  # iterations between two Paintings
    bf16: bool = False  # gradients; the losses told, and the choice of the best, are always of fp32
    content_layers: Layers = field(default_factory=dict)  # {}: the first of CONTENT_LAYERS that the weights have
    style_layers: Layers = field(default_factory=dict)  # {}: those of STYLE_LAYERS that the weights have

    def problems(self) -> list[str]:
        """Everything that is wrong with these settings, one line each."""
        found = [
            f"{name}: got {getattr(self, name)}, expected at least {least}"
            for name, least in {"size": 64, "steps": 1, "tick": 1}.items()
            if getattr(self, name) < least
        ]
        weights = {name: getattr(self, name) for name in ("content_weight", "style_weight", "tv_weight")}
        found += [
            f"{name}: got {weight}, expected a number from 0 on"
            for name, weight in weights.items()
            if not (math.isfinite(weight) and weight >= 0)
        ]
        if not (self.content_weight or self.style_weight):
            found.append("style_weight: got 0, and content_weight 0, expected one of them above 0")
        return found


@dataclass(frozen=True)
class Source:
    """An artwork RGB uint8 (H, W, 3), how much of it, and masks uint8 (H, W): of the photo, and of the artwork."""

    picture: Picture
    weight: float = 1.0
    place: Picture | None = None
    part: Picture | None = None


@dataclass(frozen=True)
class Painting:
    """How far it is, and the best picture of its scale until now, in the size of the result."""

    step: int  # of steps
    steps: int
    scale: int  # 0 is the coarsest; losses of one scale never rise, those of two do not compare
    loss: float  # total, weighted, in fp32
    terms: Mapping[str, float]  # unweighted
    picture: Tensor  # RGB float (3, H, W), 0-1


def paint(
    weight_sets: Sequence[Weights], photo: Picture, sources: Sequence[Source], settings: Settings, device: torch.device
) -> Iterator[Painting]:
    """Paint ``photo``, RGB uint8 (H, W, 3), in the styles of ``sources``; the last Painting is the result.

    Raises:
        TrainError: bad settings, a photo too narrow for the perceptual network, a mask without a region, layers that
            the weights do not have, a loss that is not finite.
    """
    if problems := settings.problems():
        listed = "\n  ".join(problems)
        raise TrainError(f"the settings have {len(problems)} problem(s):\n  {listed}")
    content_layers, style_layers = chosen_layers(weight_sets, settings)
    perceptual = Perceptual([*content_layers, *style_layers], weight_sets).to(device)
    perceptual.to(memory_format=torch.channels_last)
    sizes = scales(photo, settings.size)
    for source in sources:
        _refuse_narrow(source.picture, sizes[0])
    whole = _tensor(photo, settings.size, device)
    best: Tensor | None = None
    for scale, size in enumerate(sizes):
        base = _tensor(photo, size, device)
        artworks = [_artwork(source, base, size, settings.color) for source in sources]
        seen = color.luma(base).expand_as(base) if settings.color == "luma" else base
        goal = objective(perceptual, seen, artworks, content_layers, style_layers)
        start = _start(base, settings) if best is None else _resized(best, base)
        for done, best, terms in _search(goal, start, settings):
            yield Painting(
                step=scale * settings.steps + done,
                steps=len(sizes) * settings.steps,
                scale=scale,
                loss=float(_total(terms, settings)),
                terms={name: float(value) for name, value in terms.items()},
                picture=_finished(best, whole, settings.color),
            )


def scales(photo: Picture, size: int) -> list[int]:
    """Long sides, coarse to fine: halves of ``size``, as long as the short side has room for the network."""
    height, width = photo.shape[:2]
    narrow = min(height, width) / max(height, width)
    if round(size * narrow) < _SHORTEST:
        raise TrainError(
            f"got: size {size} for a photo of {width}x{height}; expected: at least {_SHORTEST} pixels on the short "
            f"side, all that the perceptual network can see.\nDo this: --size {math.ceil(_SHORTEST / narrow)} or more."
        )
    found = [size]
    while found[0] // 2 >= max(_COARSEST, _SHORTEST / narrow):
        found.insert(0, found[0] // 2)
    return found


def _refuse_narrow(artwork: Picture, long_side: int) -> None:
    height, width = artwork.shape[:2]
    if round(long_side * min(height, width) / max(height, width)) < _SHORTEST // 2:
        raise TrainError(
            f"got: an artwork of {width}x{height}; expected: one less narrow, of which the perceptual network sees at "
            f"least {_SHORTEST // 2} pixels at a long side of {long_side}.\nDo this: cut a part out of it."
        )


def chosen_layers(weight_sets: Sequence[Weights], settings: Settings) -> tuple[Layers, Layers]:
    """Content and style layers with their weights: those asked for, else the paper's as far as the weights go."""
    there = available_layers(weight_sets)
    content = settings.content_layers or {next(x for x in CONTENT_LAYERS if x in there): 1.0}
    style = settings.style_layers or {layer: 1.0 for layer in STYLE_LAYERS if layer in there}
    return content, style


def _fitted(picture: Picture, long_side: int) -> Picture:
    return scaled(picture, long_side * min(picture.shape[:2]) / max(picture.shape[:2]))


def _tensor(picture: Picture, long_side: int, device: torch.device) -> Tensor:
    return tensor_from_rgb(_fitted(picture, long_side)).to(device)[None]


def _artwork(source: Source, photo: Tensor, size: int, colors: str) -> Artwork:
    """The artwork with a long side of ``size``, as the photo's, and coloured as asked."""
    picture = _tensor(source.picture, size, photo.device)
    if colors == "luma":
        picture = color.matched_luma(picture, photo).expand(-1, 3, -1, -1)
    elif colors == "match":
        picture = color.matched_color(picture, photo).clamp(0, 1)
    place, part = (_mask(mask, size, photo.device) for mask in (source.place, source.part))
    return Artwork(picture, source.weight, place, part)


def _mask(mask: Picture | None, size: int, device: torch.device) -> Tensor | None:
    if mask is None:
        return None
    small = torch.from_numpy(_fitted(mask, size)).float()[None, None] / 255
    if not small.any():
        raise TrainError("got: a mask that is black all over; expected: white where the artwork counts.")
    return small.to(device)


def _start(photo: Tensor, settings: Settings) -> Tensor:
    """The photo or noise, (1, 3, H, W), or (1, 1, H, W) where brightness alone is painted."""
    start = color.luma(photo) if settings.color == "luma" else photo
    if settings.start == "photo":
        return start
    random = torch.Generator().manual_seed(settings.seed)  # of the CPU: the same on every device
    return torch.rand(start.shape, generator=random).to(photo)


def _resized(picture: Tensor, like: Tensor) -> Tensor:
    if picture.shape[2:] == like.shape[2:]:
        return picture
    return F.interpolate(picture, like.shape[2:], mode="bicubic", align_corners=False)


def _finished(picture: Tensor, photo: Tensor, colors: str) -> Tensor:
    picture = _resized(picture, photo)
    return (color.with_luma(photo, picture) if colors == "luma" else picture)[0].clamp(0, 1)


def _total(terms: Mapping[str, Tensor], settings: Settings) -> Tensor:
    weighted = [getattr(settings, f"{name}_weight") * terms[name] for name in ("content", "style", "tv")]
    return torch.stack(weighted).sum() + RANGE_WEIGHT * terms["range"]


def _search(goal: Objective, start: Tensor, settings: Settings) -> Iterator[tuple[int, Tensor, Terms]]:
    """Steps done, the best picture and its losses, every few iterations; with L-BFGS only where it got better.

    Where bf16, or a line search that failed, leads nowhere, L-BFGS begins anew from the best, with fp32 and an empty
    memory; where that leads nowhere either, this scale is done.
    """

    def terms_of(picture: Tensor) -> Terms:
        return goal.terms(picture.expand(-1, 3, -1, -1))

    def search_from(picture: Tensor, bf16: bool) -> PixelSearch:
        return PixelSearch(picture, lambda x: _total(terms_of(x), settings), optimizer=settings.optimizer, bf16=bf16)

    search, best, lowest, failures = search_from(start, settings.bf16), start, float("inf"), 0
    with torch.no_grad():
        for done in range(0, settings.steps, settings.tick):
            now = min(settings.tick, settings.steps - done)
            search.run(now)
            terms = terms_of(search.best)
            found = float(_total(terms, settings))
            if found < lowest:
                best, lowest, failures = search.best, found, 0
                yield done + now, best, terms
            elif settings.optimizer == "lbfgs":
                failures += 1
                if failures == 2:
                    break
                search = search_from(best, bf16=False)
    if lowest == float("inf"):
        raise TrainError(
            "got: a loss that is not finite; expected: a number.\n"
            "Do this: check the file of --vgg, and lower the weights of the losses."
        )
