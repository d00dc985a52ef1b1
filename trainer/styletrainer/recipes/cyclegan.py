"""CycleGAN (Zhu et al. 2017): photos and paintings, unpaired; what was painted must lead back to the photo.

Two generators, A (photos) to B (paintings) and back, and a critic of each domain. L1 is taken on 0-1 and the
least-squares loss has its half: both are half of the paper's, so that its weights, 10 for the cycle and 5 for the
identity, mean the same here.
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
from styletrainer.data.crops import sample_photos
from styletrainer.data.image_pool import ImagePool
from styletrainer.discriminators import PatchGAN
from styletrainer.domains import UNREAD, players_of, read_domains, unpaired_batches, whole_picture
from styletrainer.generators import build_generator, with_margin
from styletrainer.recipe import Batch, Player, Step, Terms, Turn, frozen
from styletrainer.run.report import styled_rows
from styletrainer.run.start import begin_with


class CycleGAN(nn.Module):
    """Two generators and two critics. Pictures are RGB float (N, 3, H, W), 0-1."""

    UNREAD = UNREAD
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "generator": "johnson",
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

        cycle_weight: float = 10.0
        identity_weight: float = 5.0  # a painting stays as it is when painted, a photo when unpainted; 0 leaves it out
        pool: int = 50  # generated pictures that each critic is shown again; 0 for none

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config, self.options = config, config.options()
        self.photos, self.artworks = read_domains(config)
        self.samples = sample_photos(self.photos)
        self.artwork = whole_picture(self.artworks[0])

        self.generator = build_generator(config.generator, config.all_generator_options())
        self.back = build_generator(config.generator, config.all_generator_options())
        if config.start:
            begin_with(self.generator, config, Path(config.start))
        self.critic_a, self.critic_b = (PatchGAN(config.critic_channels, config.critic_strided) for _ in "ab")
        self.pool_a, self.pool_b = (ImagePool(self.options.pool, config.crop) for _ in "ab")

    def players(self) -> dict[str, Player]:
        generators = nn.ModuleList([self.generator, self.back])
        critics = nn.ModuleList([self.critic_a, self.critic_b, self.pool_a, self.pool_b])
        return players_of(self.config, generators, critics)

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        return unpaired_batches(self.config, self.photos, self.artworks, first_step, rank, world)

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """``a`` photos, ``b`` paintings."""
        a, b = batch["a"], batch["b"]
        painted, unpainted = with_margin(self.generator, a), with_margin(self.back, b)
        options, terms = self.options, self._generator_terms(a, b, painted, unpainted)
        cycle = {"cycle_a": options.cycle_weight, "cycle_b": options.cycle_weight}
        other = {"identity": options.identity_weight, "adversarial": self.config.adversarial_weight}
        yield Turn("generator", terms, cycle | other)

        painted, unpainted = self.pool_b.swap_shared(painted, step), self.pool_a.swap_shared(unpainted, step)
        kind = self.config.adversarial
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
        self.back.eval()  # else a look at it would change its running statistics
        unpainted = with_margin(self.back, painted)
        self.back.train()
        return [*rows, [torch.ones_like(self.samples[0]), *unpainted]]

    def _generator_terms(self, a: Tensor, b: Tensor, painted: Tensor, unpainted: Tensor) -> Terms:
        kind = self.config.adversarial
        # Clamped, as pictures are: what is outside of 0-1 must not carry the way back.
        terms: Terms = {
            "cycle_a": F.l1_loss(with_margin(self.back, painted.clamp(0, 1)), a),
            "cycle_b": F.l1_loss(with_margin(self.generator, unpainted.clamp(0, 1)), b),
        }
        if self.options.identity_weight:
            same_b, same_a = with_margin(self.generator, b), with_margin(self.back, a)
            terms["identity"] = F.l1_loss(same_b, b) + F.l1_loss(same_a, a)
        with frozen(self.critic_a), frozen(self.critic_b):
            fooled_a = losses.fooling_loss(self.critic_a(unpainted), kind)  # type: ignore[arg-type]
            fooled_b = losses.fooling_loss(self.critic_b(painted), kind)  # type: ignore[arg-type]
        return terms | {"adversarial": fooled_a + fooled_b}
