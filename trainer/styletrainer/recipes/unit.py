"""UNIT (Liu et al. 2017): photos and paintings, unpaired, as two variational auto-encoders with one latent space.

A latent is its encoder's mean plus N(0, 1) in training, the mean at inference. Each domain reconstructs itself; a
photo decoded as a painting must look like one to that domain's critic, and lead back to the photo. L1 is taken on 0-1
and the least-squares loss has its half, so the paper's weights, divided by that of its adversarial loss, mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig
from styletrainer.data.crops import sample_photos
from styletrainer.data.photos import Photo
from styletrainer.discriminators import PatchGAN
from styletrainer.domains import (
    UNREAD,
    UnpairedCrops,
    players_of,
    read_domains,
    unpaired_batches,
    whole_picture,
)
from styletrainer.generators import build_generator
from styletrainer.generators.unit import Encoder, Unit
from styletrainer.losses.overlap import FOLDS, latent_overlap
from styletrainer.recipe import Batch, Player, Step, Terms, Turn, frozen
from styletrainer.run.report import styled_rows
from styletrainer.run.start import begin_with


def gaussian_kl(mean: Tensor) -> Tensor:
    """KL divergence of N(mean, 1) from N(0, 1), (N, C, H, W) -> scalar: per latent dimension, over all items."""
    return mean.float().square().mean() / 2


class UNIT(nn.Module):
    """Two auto-encoders that share their inner layers, and two critics. Pictures are RGB float (N, 3, H, W), 0-1."""

    UNREAD = UNREAD
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "generator": "unit",
        "batch": 1,
        "crop": 128,
        "learning_rate": 2e-3,
        "critic_learning_rate": 4e-4,
        "adversarial": "lsgan",
        "adversarial_weight": 1.0,
        "critic_channels": 32,
    }

    @dataclass(frozen=True)
    class Options:
        """Settings of this recipe alone."""

        reconstruction_weight: float = 10.0
        cycle_weight: float = 10.0
        kl_weight: float = 0.01  # per latent dimension, of the pictures
        cycle_kl_weight: float = 0.01  # of their translations
        latent_weight: float = 2.0  # on a translation's latent against its picture's (as in MUNIT, Huang et al. 2018)
        overlap_crops: int = 48  # withheld crops a domain in which the overlap of latents is measured; 0 for never

        def __post_init__(self) -> None:
            if 0 < self.overlap_crops < 5:
                raise ValueError(f"overlap_crops: got {self.overlap_crops}, expected 0, or 5 and more")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config, self.options = config, config.options()
        other = f"generator: got {config.generator}, expected unit, whose halves are trained (leave --generator out)"
        domains = read_domains(config, [other] if config.generator != "unit" else [])
        (self.photos, unseen_a), (self.artworks, unseen_b) = map(_withheld, domains)
        self.unseen = UnpairedCrops(unseen_a, unseen_b, config.crop, config.artwork_size, config.seed + 1)
        self.samples = sample_photos(self.photos)
        self.artwork = whole_picture(self.artworks[0])

        generator = build_generator(config.generator, config.all_generator_options())
        assert isinstance(generator, Unit)
        if config.start:
            begin_with(generator, config, Path(config.start))
        self.generator, self.back = generator, generator.counterpart()
        self.critic_a, self.critic_b = (PatchGAN(config.critic_channels, config.critic_strided) for _ in "ab")
        self.autoencoders = nn.ModuleList([self.generator, self.back])
        # A measure, and state all the same: a resumed run shows the last one too.
        self.autoencoders.register_buffer("overlap", torch.zeros(()))

    def players(self) -> dict[str, Player]:
        critics = nn.ModuleList([self.critic_a, self.critic_b])
        return players_of(self.config, self.autoencoders, critics)

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        return unpaired_batches(self.config, self.photos, self.artworks, first_step, rank, world)

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``a`` photos, ``b`` paintings."""
        a, b = batch["a"], batch["b"]
        terms, painted, unpainted = self._generator_terms(a, b, _Noise(step, len(a)))
        weights = {name: getattr(self.options, f"{name}_weight", 1.0) for name in terms}
        if self.options.overlap_crops:
            terms["overlap"] = self._overlap(step.number)
        yield Turn("generator", terms, weights | {"adversarial": self.config.adversarial_weight, "overlap": 0.0})

        kind, painted, unpainted = self.config.adversarial, painted.detach(), unpainted.detach()
        found = {
            "critic_a": losses.critic_loss(self.critic_a(a), self.critic_a(unpainted), kind),  # type: ignore[arg-type]
            "critic_b": losses.critic_loss(self.critic_b(b), self.critic_b(painted), kind),  # type: ignore[arg-type]
        }
        yield Turn("critic", found)

    @torch.no_grad()
    def sheet(self, averaged: nn.Module) -> list[list[Tensor]]:
        """The photos, below them painted, below that led back."""
        rows = styled_rows(averaged, self.samples, [self.artwork])
        painted = torch.stack(rows[1][1:]).to(next(self.back.parameters()).device)
        return [*rows, [torch.ones_like(self.samples[0]), *self.back(painted)]]

    def _generator_terms(self, a: Tensor, b: Tensor, noise: _Noise) -> tuple[Terms, Tensor, Tensor]:
        """Unweighted losses; photos as paintings; paintings as photos."""
        encode_a, encode_b = self.generator.encoder, self.back.encoder
        decode_a, decode_b = self.back.decoder, self.generator.decoder
        mean_a, mean_b = encode_a(a), encode_b(b)
        latent_a, latent_b = noise.added(mean_a), noise.added(mean_b)
        painted, unpainted = decode_b(latent_a), decode_a(latent_b)
        again_a, again_b = encode_b(painted), encode_a(unpainted)
        terms: Terms = {
            "reconstruction": F.l1_loss(decode_a(latent_a), a) + F.l1_loss(decode_b(latent_b), b),
            "kl": gaussian_kl(mean_a) + gaussian_kl(mean_b),
            "cycle": F.l1_loss(decode_a(noise.added(again_a)), a) + F.l1_loss(decode_b(noise.added(again_b)), b),
            "cycle_kl": gaussian_kl(again_a) + gaussian_kl(again_b),
            # z = E1(x1) = E2(x2): without it each encoder writes the latent in a way of its own. What it shall be
            # is held still, or both would shrink to meet.
            "latent": F.l1_loss(again_a, mean_a.detach()) + F.l1_loss(again_b, mean_b.detach()),
        }
        with frozen(self.critic_a), frozen(self.critic_b):
            kind = self.config.adversarial
            fooled_a = losses.fooling_loss(self.critic_a(unpainted), kind)  # type: ignore[arg-type]
            fooled_b = losses.fooling_loss(self.critic_b(painted), kind)  # type: ignore[arg-type]
        terms["adversarial"] = fooled_a + fooled_b
        return terms, painted, unpainted

    def _overlap(self, step: int) -> Tensor:
        """Overlap of the latents of ``unseen``, at the first step of every tick; the last one in between.

        So the first tick shows that of the networks as they were made.
        """
        overlap = self.autoencoders.get_buffer("overlap")
        if step % min(self.config.tick, max(self.config.steps // 4, 1)) == 0:
            items = [self.unseen[i] for i in range(self.options.overlap_crops)]
            a = latents_at_places(self.generator.encoder, [item[0] for item in items])
            b = latents_at_places(self.back.encoder, [item[1] for item in items])
            of = torch.stack([item[2] for item in items]).T.tolist()
            # Not finite: the tick says so, as of a loss.
            overlap.fill_(latent_overlap(a, b, *of) if np.isfinite([a, b]).all() else np.nan)
        return overlap.clone()


@torch.no_grad()
def latents_at_places(encoder: Encoder, pictures: Sequence[Tensor]) -> NDArray[np.float64]:
    """Means of the latents at 4 x 4 places: RGB (3, H, W), 0-1, 32 pixels and more, of one size -> (N, 16, C)."""
    device, found = next(encoder.parameters()).device, []
    for picture in pictures:
        mean = encoder(picture[None].to(device))[0].float()
        y, x = (torch.arange(4) * (side // 4) + side // 8 for side in mean.shape[1:])
        found.append(mean[:, y][:, :, x].flatten(1).T.cpu().double())
    return torch.stack(found).numpy()


class _Noise:
    """N(0, 1) beside the latents of a batch: every item draws its own, however many processes share the batch."""

    def __init__(self, step: Step, items: int) -> None:
        self.random = [step.item_random(item) for item in range(items)]

    def added(self, mean: Tensor) -> Tensor:
        """The latents of ``mean`` (N, C, H, W), the reparametrisation of Kingma & Welling 2014."""
        drawn = torch.stack([torch.randn(mean.shape[1:], generator=random) for random in self.random])
        return mean + drawn.to(mean)


def _withheld(paths: list[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Pictures to train with, and others to measure with: a tenth, but at least as many as the measure has folds.

    The same ones where that is more than a quarter. Then the measure has crops that training does not draw, of
    pictures that it has seen.
    """
    count = max(len(paths) // 10, FOLDS)
    if 4 * count > len(paths):
        return paths, paths
    apart = len(paths) // count
    measure = paths[apart - 1 : apart * count : apart]
    kept = set(measure)
    return [path for path in paths if path not in kept], measure
