"""Feed-forward stylizer: the losses of Gatys et al. 2016, learned by one network a style (Johnson et al. 2016).

Content relu3_3, style relu1_2, relu2_2, relu3_3 and relu4_1, total variation; no critic. The paper takes VGG-16's
relu2_2 and relu4_3, whose place in VGG-19 these are: relu4_1 sees half of a 192-pixel crop, and so is what arranges
strokes into swirls and waves; without it they stay a texture. Muon instead of the paper's Adam, with which what is
dark in the photo is a black hole for the first thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig
from styletrainer.data.crops import (
    Crops,
    Picture,
    crop_batches,
    read_artwork,
    sample_photos,
    tensor_from_rgb,
    without_context,
)
from styletrainer.data.photos import list_photos
from styletrainer.generators import build_generator
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.recipe import Batch, Player, Step, Terms, Turn
from styletrainer.run.muon import Muon, parameter_groups
from styletrainer.run.report import styled_rows
from styletrainer.run.start import begin_with

# Settings of TrainConfig that are other recipes', and what they are here.
_NOT_HERE: dict[str, Any] = {
    "styles": (),
    "pictures": (),
    "adversarial_weight": 0.0,
    "grid_weight": 0.0,
    "equivariance_weight": 0.0,
    "style_octaves": 1,
}


class FeedForward(nn.Module):
    """Johnson's stylizer of one style. Pictures are RGB float (N, 3, H, W), 0-1."""

    UNREAD = ("teacher_weight", *_NOT_HERE)
    DEFAULTS: ClassVar[dict[str, Any]] = {
        **_NOT_HERE,
        "generator": "johnson",
        "content_layers": {"relu3_3": 1.0},
        "style_layers": {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_1": 1.0},
        "style_weight": 1.0,
    }

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone: none, TrainConfig has them all."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.photos = list_photos(Path(config.photos))
        self.artworks = [read_artwork(Path(path), config.artwork_size, config.crop) for path in config.artworks]
        self.samples = sample_photos(self.photos)
        self.generator = build_generator(config.generator, config.all_generator_options())
        if config.start:
            begin_with(self.generator, config, Path(config.start))
        layers = [*config.content_layers, *config.style_layers]
        self.perceptual = Perceptual(layers, load_weight_sets([Path(path) for path in config.vgg]))
        self.perceptual.to(memory_format=torch.channels_last)
        for layer, target in self._grams(self.artworks).items():
            self.register_buffer(f"gram_{layer}", target)

    def players(self) -> dict[str, Player]:
        rate = self.config.learning_rate
        optimizer = Muon(parameter_groups(self.generator), rate)
        return {"generator": Player(self.generator, optimizer, rate, max_norm=1.0)}

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        config = self.config
        crops = Crops(self.photos, [self.artworks], config.crop, config.batch * world, config.seed)
        found = crop_batches(
            crops, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
        )
        for photo, _, _, skipped in found:
            yield {"photo": photo, "skipped": torch.tensor(skipped)}

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:  # noqa: ARG002  # any recipe's signature
        """``photo`` has CONTEXT more on every side, which the generator sees and the losses do not."""
        config = self.config
        output = without_context(self.generator(batch["photo"]).float())
        found = self.perceptual(output)
        with torch.no_grad():
            wanted = self.perceptual(without_context(batch["photo"]), config.content_layers)
        content = [w * losses.content_loss(found[x], wanted[x]) for x, w in config.content_layers.items()]
        style = [w * losses.style_loss(found[x], self.get_buffer(f"gram_{x}")) for x, w in config.style_layers.items()]
        terms = {
            "content": torch.stack(content).sum(),
            "style": torch.stack(style).sum(),
            "tv": losses.total_variation(output),
        }
        yield Turn("generator", terms, {name: getattr(config, f"{name}_weight") for name in terms}, output)

    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        return styled_rows(averaged, self.samples, [tensor_from_rgb(self.artworks[0])])

    @torch.no_grad()
    def _grams(self, artworks: list[Picture]) -> Terms:
        """Gram matrices (1, C, C) of the style, averaged over its artworks."""
        found = [self.perceptual(tensor_from_rgb(artwork)[None], self.config.style_layers) for artwork in artworks]
        return {x: torch.stack([losses.gram(f[x]) for f in found]).mean(0) for x in self.config.style_layers}
