"""Hybrid GAN stylizer: content + Gram style + PatchGAN + total variation.

Content and style losses as in Gatys et al. 2016 and Johnson et al. 2016, the critic as in Isola et al.
2017. Beyond them, what a small network needs to draw strokes instead of stamps: Gram matrices on a
Gaussian pyramid of shallow layers instead of heavy deep ones, a penalty on what is locked to the pixel grid,
penalties on style that does not move with the photo, on halos, on texture where the photo has none and on strokes that
cross its forms, and, when given, a teacher whose pictures are followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import StyleWeights, TrainConfig
from styletrainer.data.crops import (
    CONTEXT,
    Crops,
    crop_batches,
    read_artwork,
    sample_photos,
    tensor_from_rgb,
    without_context,
)
from styletrainer.data.photos import list_photos
from styletrainer.data.pictures import photos_with_pictures
from styletrainer.data.views import generate_views
from styletrainer.discriminators import PatchGAN
from styletrainer.generators import build_generator
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.recipe import Batch, Player, Step, Terms, Turn, frozen
from styletrainer.run.muon import Muon, parameter_groups
from styletrainer.run.report import styled_rows
from styletrainer.run.start import begin_with, learn_last_style

TEACHER_LAYERS = ("relu2_2", "relu3_1")


class Hybrid(nn.Module):
    """The hybrid GAN stylizer. Pictures are RGB float (N, 3, H, W), 0-1."""

    DEFAULTS: ClassVar[dict[str, Any]] = {}

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone."""

        # Of several styles, those that want another `equivariance_weight`: one with more contrast flickers more.
        equivariance_weights: StyleWeights = field(default_factory=dict)
        # On the light or the colour that a small network lays around dark forms: 150 takes most of it away.
        halo_weight: float = 0.0
        # On detail that is painted where the photo has none: 100 to 400 takes off stamps, and flicker with them.
        calm_weight: float = 0.0
        # On strokes that cross the photo's forms, whatever their contrast: 1 to 4 gives small faces back.
        form_weight: float = 0.0

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        folder = Path(config.photos)
        self.photos, self.pictures = photos_with_pictures(
            list_photos(folder), folder, [Path(p) for p in config.pictures]
        )
        scans = [read_artwork(Path(p), config.artwork_size, config.crop) for p in config.artworks]
        one_each = config.styles and not config.new_style_only
        self.artworks = [[artwork] for artwork in scans] if one_each else [scans]
        self.samples = sample_photos(self.photos)

        self.generator = build_generator(config.generator, config.all_generator_options())
        if config.start:
            begin_with(self.generator, config, Path(config.start))
        if config.new_style_only:
            learn_last_style(self.generator)
        self.context = getattr(self.generator, "context", CONTEXT)
        self.critic = PatchGAN(config.critic_channels, config.critic_strided)
        layers = [*config.content_layers, *config.style_layers]
        layers += TEACHER_LAYERS if config.pictures else ()
        self.perceptual = Perceptual(layers, load_weight_sets([Path(p) for p in config.vgg]))
        self.perceptual.to(memory_format=torch.channels_last)
        self._remember_styles()

    @torch.no_grad()
    def _remember_styles(self) -> None:
        """A style's Gram matrices, averaged over its artworks, as buffers."""
        for style, of_style in enumerate(self.artworks):
            per_artwork = [self._grams(tensor_from_rgb(artwork)[None]) for artwork in of_style]
            for key in per_artwork[0]:
                self.register_buffer(f"style{style}_{key}", torch.stack([g[key] for g in per_artwork]).mean(0))

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
        crops = Crops(
            self.photos, self.artworks, config.crop, config.batch * world, config.seed, self.pictures, self.context
        )
        found = crop_batches(
            crops, first_step=first_step, batch=config.batch, rank=rank, world=world, workers=config.workers
        )
        for photo, artwork, picture, skipped in found:
            yield {"photo": photo, "artwork": artwork, "picture": picture, "skipped": torch.tensor(skipped)}

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``photo`` and the teacher's ``picture`` of it, which may be empty, have ``context`` more on every side."""
        config, own, photo = self.config, self.config.options(), batch["photo"]
        picture = batch["picture"] if batch["picture"].numel() else None
        number, style = self._style_of(step.number, photo)
        steady = config.equivariance_weight
        if config.styles:
            steady = own.equivariance_weights.get(config.learning()[number], steady)
        output, moved, shift, light = generate_views(self.generator, photo, style, step, bool(steady), self.context)
        if config.adversarial_weight:
            real, fake = self.critic(batch["artwork"]), self.critic(output.detach())
            yield Turn("critic", {"critic": losses.critic_loss(real, fake, config.adversarial)})  # type: ignore[arg-type]

        terms = self._generator_terms(output, photo, number, picture)
        if moved is not None:
            terms["equivariance"] = losses.equivariance_loss(moved - light, output, shift)
        weights = {name: getattr(config, f"{name}_weight") for name in terms} | {"equivariance": steady}
        if own.halo_weight:
            terms["halo"], weights["halo"] = losses.halo_loss(output, photo, self.context), own.halo_weight
        if own.calm_weight:
            terms["calm"], weights["calm"] = losses.calm_loss(output, photo, self.context), own.calm_weight
        if own.form_weight:
            terms["form"], weights["form"] = losses.form_loss(output, photo, self.context), own.form_weight
        yield Turn("generator", terms, weights, output, number)

    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        return styled_rows(averaged, self.samples, [tensor_from_rgb(of_style[0]) for of_style in self.artworks])

    def _style_of(self, step: int, photo: Tensor) -> tuple[int, Tensor | None]:
        """The style that this step trains: which one of those that learn, and the generator's mixing weights."""
        names = self.config.styles
        if not names:
            return 0, None
        turn = 0 if self.config.new_style_only else step % len(names)
        number = len(names) - 1 if self.config.new_style_only else turn
        return turn, torch.eye(len(names), device=photo.device)[number]

    def _grams(self, artwork: Tensor) -> Terms:
        found = {}
        for octave in range(self.config.style_octaves):
            for layer, features in self.perceptual(artwork, self.config.style_layers).items():
                found[f"gram{octave}_{layer}"] = losses.gram(features)
            artwork = F.avg_pool2d(artwork, 2)
        return found

    def _generator_terms(self, output: Tensor, photo: Tensor, style: int, picture: Tensor | None) -> Terms:
        """Unweighted losses of the generator's ``output`` in style number ``style`` for ``photo``."""
        config = self.config
        inner = without_context(photo, self.context)
        features = self.perceptual(output, self._layers())
        terms: Terms = {"tv": losses.total_variation(output)}
        if config.content_weight:
            with torch.no_grad():
                wanted = self.perceptual(inner, config.content_layers)
            terms["content"] = torch.stack(
                [w * losses.content_loss(features[x], wanted[x]) for x, w in config.content_layers.items()]
            ).sum()
        if config.style_weight:
            terms["style"] = self._style(output, features, style)
        if config.adversarial_weight:
            with frozen(self.critic):
                terms["adversarial"] = losses.fooling_loss(self.critic(output), config.adversarial)  # type: ignore[arg-type]
        if config.grid_weight:
            terms["grid"] = losses.grid_loss(output)
        if picture is not None:
            terms["teacher"] = self._teacher_distance(output, features, without_context(picture, self.context))
        return terms

    def _layers(self) -> set[str]:
        """Layers that the losses in use ask for: a term of weight 0 costs nothing."""
        layers = set(self.config.content_layers) if self.config.content_weight else set()
        layers |= set(self.config.style_layers) if self.config.style_weight else set()
        return layers | (set(TEACHER_LAYERS) if self.config.pictures else set())

    def _style(self, output: Tensor, features: Terms, style: int) -> Tensor:
        total = output.new_zeros((), dtype=torch.float32)
        for octave in range(self.config.style_octaves):
            if octave:
                output = F.avg_pool2d(output, 2)
                features = self.perceptual(output, self.config.style_layers)
            for layer, weight in self.config.style_layers.items():
                target = self.get_buffer(f"style{style}_gram{octave}_{layer}")
                total = total + weight * losses.style_loss(features[layer], target)
        return total

    def _teacher_distance(self, output: Tensor, features: Terms, picture: Tensor) -> Tensor:
        """L1 plus activation distance to the teacher's picture (knowledge distillation, Hinton et al. 2015)."""
        with torch.no_grad():
            wanted = self.perceptual(picture, TEACHER_LAYERS)
        distance = 4 * F.l1_loss(output, picture)
        for layer in TEACHER_LAYERS:
            distance = distance + losses.content_loss(features[layer], wanted[layer])
        return distance
