"""What a recipe is to the loop: players that learn in turns, batches, and pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from styletrainer.config import TrainConfig

Terms = dict[str, Tensor]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """Where a step is in the run and in the global batch.

    Whatever a recipe draws at random comes from torch's global generator, which the loop seeds for every step, where
    all processes shall draw the same, and from ``item_random`` where every item of the global batch has its own.
    """

    number: int
    done: float  # share of the run that is behind us, 0-1
    seed: int
    batch: int  # items of this process
    rank: int = 0
    world: int = 1

    def item_random(self, number: int) -> torch.Generator:
        """Random numbers of item ``number`` of this process' batch: the same however many processes share it."""
        item = (self.number * self.world + self.rank) * self.batch + number
        return torch.Generator().manual_seed(hash((self.seed, item)) % 2**63)


@dataclass
class Player:
    """One side of the game: what learns in its turn, and how fast.

    ``rate`` is the learning rate after the warm-up, from which it falls to zero along a cosine; a group of the
    optimiser with ``pace`` learns so many times as fast.
    """

    module: nn.Module  # its state is in the checkpoint; parameters that need no gradient stay as they are
    optimizer: torch.optim.Optimizer
    rate: float
    max_norm: float | None = None  # of the gradient, clipped


@dataclass(frozen=True)
class Turn:
    """A player's turn: what it minimises now. The loop steps its optimiser before it asks for the next turn."""

    player: str
    terms: Terms  # scalars, unweighted, by the names that the report shows
    weights: Mapping[str, float] = field(default_factory=dict)  # of terms; 1 for those not named
    output: Tensor | None = None  # the picture (N, 3, H, W) that the terms judge: where ``--look`` balances them
    style: int = 0  # which of several the picture is in

    def total(self) -> Tensor:
        """Weighted sum of the terms."""
        return torch.stack([self.weights.get(name, 1.0) * term for name, term in self.terms.items()]).sum()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed in here gives ``module`` no gradients: it judges, and does not learn."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class Recipe(Protocol):
    """One system: built from a config, an ``nn.Module`` that holds all of its networks.

    The class also has ``DEFAULTS``, what of TrainConfig it wants otherwise, and ``Options``, a frozen dataclass of
    settings of its own (``TrainConfig.recipe_options``); ``NEEDS`` names what of TrainConfig it must be given,
    ("artworks", "photos") where it does not say; ``UNREAD`` names settings of TrainConfig that it has no use for, which
    are refused. The constructor reads and checks all of the data: whatever is wrong
    with it is told there, in one TrainError, before a step is made. A method ``finish(averaged)``, where there is one,
    fills what of the averaged generator is no average, each time before it is saved; ``scores(averaged)`` gives
    figures of it for the report.
    """

    DEFAULTS: dict[str, Any]
    Options: type
    config: TrainConfig  # as given, completed by what the data tell: names of styles
    generator: nn.Module  # what is averaged, saved, and exported

    def to(self, device: torch.device) -> Any:
        """``nn.Module.to``."""

    def players(self) -> dict[str, Player]:
        """Who learns, by name, made after the modules are on their device; one of them is ``generator``."""

    def batches(self, first_step: int, rank: int, world: int) -> Iterator[Batch]:
        """Endless batches on the CPU, this process' share; item ``i`` of the run depends on ``i`` and the seed alone.

        ``skipped``, where a batch has it, counts files that did not read.
        """

    def turns(self, batch: Batch, step: Step) -> Iterator[Turn]:
        """One step, turn by turn, in autocast; ``batch`` is on the device."""

    def sheet(self, averaged: nn.Module) -> Sequence[Sequence[Tensor]]:
        """Rows of sample pictures of one size, RGB (3, H, W), 0-1, drawn by the averaged generator.

        A recipe may also have ``scores(averaged) -> dict[str, float]``: figures that every tick tells beside the
        losses, of pictures that it does not learn from.
        """
