"""Hybrid GAN stylizer: content + Gram style + PatchGAN + total variation.

Content and style losses as in Gatys et al. 2016 and Johnson et al. 2016, the critic as in Isola et al.
2017. Beyond them, what a small network needs to draw strokes instead of stamps: Gram matrices on a
Gaussian pyramid of shallow layers instead of heavy deep ones, a penalty on what is locked to the pixel grid,
a penalty on style that does not move with the photo, and, when given, a teacher whose pictures are followed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig
from styletrainer.data import CONTEXT
from styletrainer.perceptual import Perceptual, Weights

Terms = dict[str, Tensor]
TEACHER_LAYERS = ("relu2_2", "relu3_1")


class Hybrid(nn.Module):
    """The losses of one run. Pictures are RGB float (N, 3, H, W), 0-1.

    Args:
        config: weights and layers.
        artworks: RGB float (1, 3, H, W) each, a list a style; a style's Gram matrices are averaged.
        weight_sets: of the perceptual networks.
    """

    def __init__(
        self,
        config: TrainConfig,
        artworks: Sequence[Sequence[Tensor]],
        weight_sets: Sequence[Weights],
    ) -> None:
        super().__init__()
        self.config = config
        layers = [*config.content_layers, *config.style_layers]
        layers += TEACHER_LAYERS if config.pictures else ()
        self.perceptual = Perceptual(layers, weight_sets)
        self.perceptual.to(memory_format=torch.channels_last)
        with torch.no_grad():
            for style, of_style in enumerate(artworks):
                per_artwork = [self._grams(artwork) for artwork in of_style]
                for key in per_artwork[0]:
                    self.register_buffer(f"style{style}_{key}", torch.stack([g[key] for g in per_artwork]).mean(0))
        self.requires_grad_(False)

    def _grams(self, artwork: Tensor) -> Terms:
        found = {}
        for octave in range(self.config.style_octaves):
            for layer, features in self.perceptual(artwork, self.config.style_layers).items():
                found[f"gram{octave}_{layer}"] = losses.gram(features)
            artwork = F.avg_pool2d(artwork, 2)
        return found

    def critic_loss(self, critic: nn.Module, real: Tensor, output: Tensor) -> Tensor:
        """What the critic minimises on artwork crops and the generator's detached output."""
        return losses.critic_loss(critic(real), critic(output), self.config.adversarial)  # type: ignore[arg-type]

    def generator_terms(
        self, output: Tensor, photo: Tensor, critic: nn.Module, style: int, picture: Tensor | None
    ) -> Terms:
        """Unweighted losses of the generator's ``output`` in style number ``style`` for ``photo``.

        ``photo`` has CONTEXT more on every side, and so has the teacher's ``picture`` of it.
        """
        config = self.config
        inner = without_context(photo)
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
            terms["adversarial"] = losses.fooling_loss(critic(output), config.adversarial)  # type: ignore[arg-type]
        if config.grid_weight:
            terms["grid"] = losses.grid_loss(output)
        if picture is not None:
            terms["teacher"] = self._teacher_distance(output, features, without_context(picture))
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

    def total(self, terms: Terms) -> Tensor:
        """Weighted sum; a term's weight is the setting ``<term>_weight``."""
        weighted = [getattr(self.config, f"{name}_weight") * term for name, term in terms.items()]
        return torch.stack(weighted).sum()


def without_context(picture: Tensor) -> Tensor:
    """The inner part of a picture (N, C, H, W) whose outer CONTEXT pixels are for the generator's eyes only."""
    return picture[:, :, CONTEXT:-CONTEXT, CONTEXT:-CONTEXT]
