"""The loss of a styled picture, and the lowest one that its own pixels can reach.

Loss, without units: content = mean (phi(y) - phi(c))^2 / mean phi(c)^2 at relu3_3 of VGG-19; style = sum over relu1_2,
relu2_2, relu3_1 (VGG-19), relu4_1, relu5_1 (VGG-19, or its slim stand-in) of mean (G(y) - G(s))^2 / mean G(s)^2.
Photos have 256 pixels on the short side, artworks 320.

Optimum: L-BFGS on the pixels, from the photo, strong Wolfe, history 20, 120 evaluations, best value. Pixels are
free, as Gatys et al. 2016 leave them. Gradients are computed in bf16, in a third of the time; the value reported is
the best picture's loss in fp32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reports import write_json
from torch import Tensor

from stylesdk.frames import Frame
from styletrainer.data.crops import tensor_from_rgb
from styletrainer.losses import content_loss, gram, style_loss
from styletrainer.optimize.pixel_search import PixelSearch
from styletrainer.perceptual import Perceptual, load_weight_sets

CONTENT_LAYER = "relu3_3"
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_1", "relu4_1", "relu5_1")
PHOTO_SIDE, ARTWORK_SIDE = 256, 320
EVALUATIONS = 120


@dataclass(frozen=True)
class Loss:
    """Loss of one picture: 1 of content is as far from the photo as a blank, 1 of style a layer's own energy."""

    content: float
    style: float

    @property
    def total(self) -> float:
        """Content plus style."""
        return self.content + self.style


class Judge:
    """The perceptual networks that see how far a picture is from a photo and from an artwork.

    Photos and artworks are BGR uint8, in the size that they are judged in.
    """

    def __init__(self, vgg: Sequence[Path] = ()) -> None:
        perceptual = Perceptual((CONTENT_LAYER, *STYLE_LAYERS), load_weight_sets(vgg))
        # Channels last is what bf16 convolutions are fast in.
        for parameter in perceptual.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.perceptual = perceptual

    @property
    def weights(self) -> str:
        """SHA-256 of the perceptual networks' weights: another VGG judges by another measure."""
        digest = hashlib.sha256()
        for name, value in sorted(self.perceptual.state_dict().items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def style(self, artwork: Frame) -> dict[str, Tensor]:
        """The artwork's Gram matrices (1, C, C), by layer."""
        return {layer: gram(value) for layer, value in self.perceptual(tensor_from_bgr(artwork), STYLE_LAYERS).items()}

    @torch.no_grad()
    def objective(self, photo: Frame, style: dict[str, Tensor]) -> Objective:
        """The loss against this photo and an artwork's Gram matrices."""
        start = tensor_from_bgr(photo)
        return Objective(self.perceptual, start, self.perceptual(start, (CONTENT_LAYER,))[CONTENT_LAYER], style)


@dataclass(frozen=True)
class Objective:
    """The loss of pictures against one photo and one artwork."""

    perceptual: Perceptual
    start: Tensor  # (1, 3, H, W), the photo
    content: Tensor  # (1, C, H', W'), the photo's activations
    style: dict[str, Tensor]  # (1, C, C) by layer, the artwork's Gram matrices

    def parts(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Content and style of RGB (1, 3, H, W), 0-1."""
        found = self.perceptual(picture.contiguous(memory_format=torch.channels_last))
        style = [style_loss(found[layer], target) for layer, target in self.style.items()]
        return content_loss(found[CONTENT_LAYER], self.content), torch.stack(style).sum()

    @torch.no_grad()
    def loss(self, picture: Tensor) -> Loss:
        """The loss of RGB (1, 3, H, W), 0-1, in fp32."""
        content, style = self.parts(picture)
        return Loss(float(content), float(style))

    def optimum(self, evaluations: int = EVALUATIONS, *, bf16: bool = True) -> Loss:
        """The best loss that L-BFGS finds from the photo."""
        search = PixelSearch(self.start, lambda picture: torch.stack(self.parts(picture)).sum(), bf16=bf16)
        search.run(evaluations)
        return min(self.loss(self.start), self.loss(search.best), key=lambda loss: loss.total)


def tensor_from_bgr(frame: Frame) -> Tensor:
    """BGR uint8 (H, W, 3) -> RGB float (1, 3, H, W), 0-1."""
    return tensor_from_rgb(np.ascontiguousarray(frame[:, :, ::-1]))[None]


class Cache:
    """Optima in a JSON file, by the SHA-256 of the photo's pixels, of the artwork's, and of the judge's ``weights``.

    Written after every one, and read again before, so that a run that was stopped goes on where it was.
    """

    def __init__(self, path: Path, weights: str) -> None:
        self.path, self.weights = path, weights

    def get(self, photo: Frame, artwork: Frame) -> Loss | None:
        """The optimum of this pair, None where it is not known."""
        found = self._read().get(self._key(photo, artwork))
        return Loss(found["content"], found["style"]) if found else None

    def put(self, photo: Frame, artwork: Frame, loss: Loss, what: str) -> None:
        """Keep the optimum of a pair; ``what`` tells a reader which pair it is."""
        known = self._read() | {self._key(photo, artwork): {"of": what} | asdict(loss)}
        write_json(self.path, dict(sorted(known.items(), key=lambda entry: entry[1]["of"])))

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        return found

    def _key(self, photo: Frame, artwork: Frame) -> str:
        return ":".join([_pixels(photo), _pixels(artwork), self.weights])


def _pixels(frame: Frame) -> str:
    return hashlib.sha256(repr(frame.shape).encode() + np.ascontiguousarray(frame).tobytes()).hexdigest()
