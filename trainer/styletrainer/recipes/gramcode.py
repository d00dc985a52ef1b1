"""Gram-code stylizer with a critic: content + Gram style + PatchGAN + total variation.

Losses as in Gatys et al. 2016, Johnson et al. 2016 and Isola et al. 2017. A step shows the generator crops of one
style's artworks and asks for that style on photos: so it learns to read a style from Gram matrices of its own
features, and what a code means to paint. The code of the whole artworks is kept in the generator's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
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
from styletrainer.data.photos import Photo, list_photos
from styletrainer.discriminators import PatchGAN
from styletrainer.errors import TrainError
from styletrainer.generators import GramCode, with_margin
from styletrainer.generators.gramcode import NOISE
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.recipe import Batch, Player, Step, Terms, Turn, frozen
from styletrainer.run.muon import Muon, parameter_groups
from styletrainer.run.report import thumbnail
from styletrainer.run.start import begin_with


class GramCodeGAN(nn.Module):
    """The Gram-code stylizer and its critic. Pictures are RGB float (N, 3, H, W), 0-1."""

    UNREAD = ("grid_weight", "equivariance_weight", "teacher_weight")
    DEFAULTS: ClassVar[dict[str, Any]] = {"generator": "gramcode"}

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone: none, TrainConfig and the generator have them all."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.photos, scans = _read(config)
        self.artworks = [[artwork] for artwork in scans] if config.styles else [scans]
        self.samples = sample_photos(self.photos)

        self.generator = GramCode(**config.all_generator_options())
        if config.start:
            begin_with(self.generator, config, Path(config.start))
        self.generator.get_buffer("short_side").fill_(max(config.artwork_size, config.crop))
        self.critic = PatchGAN(config.critic_channels, config.critic_strided)
        layers = [*config.content_layers, *config.style_layers]
        self.perceptual = Perceptual(layers, load_weight_sets([Path(p) for p in config.vgg]))
        self.perceptual.to(memory_format=torch.channels_last)
        with torch.no_grad():
            for style in range(len(self.artworks)):
                self._remember_style(style)

    def players(self) -> dict[str, Player]:
        config = self.config
        generator = Muon(parameter_groups(self.generator), config.learning_rate)
        critic = torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate, betas=(0.0, 0.99))
        return {
            "generator": Player(self.generator, generator, config.learning_rate, max_norm=1.0),
            "critic": Player(self.critic, critic, config.critic_learning_rate),
        }

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        config = self.config
        crops = Crops(self.photos, self.artworks, config.crop, config.batch * world, config.seed)
        found = crop_batches(
            crops, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
        )
        for photo, artwork, _, skipped in found:
            yield {"photo": photo, "artwork": artwork, "skipped": torch.tensor(skipped)}

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``photo`` has CONTEXT more pixels on every side; all items show the style that has its turn."""
        config, photo, artwork = self.config, batch["photo"], batch["artwork"]
        style = step.number % len(self.artworks)
        draws = [torch.randn(NOISE, generator=step.item_random(number)) for number in range(len(photo))]
        noise = torch.stack(draws).to(photo)
        output = without_context(self.generator(photo, self.generator.encode(artwork), noise).float())
        if config.adversarial_weight:
            real, fake = self.critic(artwork), self.critic(output.detach())
            yield Turn("critic", {"critic": losses.critic_loss(real, fake, config.adversarial)})  # type: ignore[arg-type]

        terms = self._generator_terms(output, without_context(photo), style)
        yield Turn("generator", terms, {name: getattr(config, f"{name}_weight") for name in terms}, output, style)

    @torch.no_grad()
    def finish(self, averaged: nn.Module) -> None:
        """Fill the averaged generator's table: the code that its own encoder makes of every style."""
        for number, code in enumerate(self._codes(averaged)):
            averaged.remember(number, code)  # type: ignore[operator]

    @torch.no_grad()
    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        device = next(averaged.parameters()).device
        photos = torch.stack(self.samples).to(device)
        rows = [[torch.ones_like(self.samples[0]), *self.samples]]
        for code, artworks in zip(self._codes(averaged), self.artworks, strict=True):
            artwork = thumbnail(tensor_from_rgb(artworks[0]), photos.shape[2:])
            rows.append([artwork, *with_margin(averaged, photos, code)])
        return rows

    def _remember_style(self, style: int) -> None:
        """The Gram matrices that a style's loss asks for, averaged over its artworks, as buffers."""
        layers = set(self.config.style_layers)
        found = [self._octaves(tensor_from_rgb(artwork)[None], layers) for artwork in self.artworks[style]]
        for octave in range(self.config.style_octaves):
            for layer in layers:
                mean = torch.stack([losses.gram(octaves[octave][layer]) for octaves in found]).mean(0)
                self.register_buffer(f"style{style}_gram{octave}_{layer}", mean)

    def _codes(self, averaged: nn.Module) -> Tensor:
        """The styles' codes (S, C), each the mean over its whole artworks."""
        table = averaged.get_buffer("table")
        styles = ([tensor_from_rgb(artwork)[None] for artwork in artworks] for artworks in self.artworks)
        found = [[averaged.encode(picture.to(table)) for picture in pictures] for pictures in styles]  # type: ignore[operator]
        return torch.stack([torch.cat(codes).mean(0) for codes in found])

    def _octaves(self, picture: Tensor, layers: set[str]) -> list[Terms]:
        """Activations of ``layers`` for the picture; of the style layers for its half, its quarter: larger strokes."""
        found = [self.perceptual(picture, layers)]
        for _ in range(1, self.config.style_octaves):
            picture = F.avg_pool2d(picture, 2)
            found.append(self.perceptual(picture, self.config.style_layers))
        return found

    def _generator_terms(self, output: Tensor, photo: Tensor, style: int) -> Terms:
        """Unweighted losses of the generator's ``output`` in style number ``style`` for ``photo``."""
        config = self.config
        octaves = self._octaves(output, {*config.content_layers, *config.style_layers})
        with torch.no_grad():
            wanted = self.perceptual(photo, config.content_layers)
        content = [w * losses.content_loss(octaves[0][x], wanted[x]) for x, w in config.content_layers.items()]
        terms: Terms = {
            "tv": losses.total_variation(output),
            "content": torch.stack(content).sum(),
            "style": self._style_loss(octaves, style),
        }
        if config.adversarial_weight:
            with frozen(self.critic):
                terms["adversarial"] = losses.fooling_loss(self.critic(output), config.adversarial)  # type: ignore[arg-type]
        return terms

    def _style_loss(self, octaves: list[Terms], style: int) -> Tensor:
        found = [
            weight * losses.style_loss(layers[layer], self.get_buffer(f"style{style}_gram{octave}_{layer}"))
            for octave, layers in enumerate(octaves)
            for layer, weight in self.config.style_layers.items()
        ]
        return torch.stack(found).sum()


def _read(config: TrainConfig) -> tuple[list[Photo], list[Picture]]:
    """The photos' paths and the artworks; everything that is wrong is told in one TrainError."""
    problems = [
        f"got: {setting}; expected: none, recipe gramcode has no use for it.\nDo this: {advice}"
        for setting, given, advice in (
            ("generator " + config.generator, config.generator != "gramcode", "leave --generator out."),
            ("pictures of a teacher", bool(config.pictures), "leave --pictures out, or train with --recipe hybrid."),
            ("new_style_only", config.new_style_only, "train all styles; a picture of another can be given as style."),
        )
        if given
    ]
    photos: list[Photo] = []
    scans: list[Picture] = []
    try:
        photos = list_photos(Path(config.photos))
    except TrainError as error:
        problems.append(str(error))
    for artwork in config.artworks:
        try:
            scans.append(read_artwork(Path(artwork), config.artwork_size, config.crop))
        except TrainError as error:
            problems.append(str(error))
    if problems:
        raise TrainError("\n".join(problems))
    return photos, scans
