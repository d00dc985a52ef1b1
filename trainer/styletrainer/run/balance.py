"""``--look``: weights that set themselves, so that no artwork needs its own.

A loss pulls at the output picture with its gradient there. How hard it pulls depends on the artwork, on the photos, on
the perceptual network and on how far the training is; what a user means by a bold look is how much of the whole pull
is the artwork's. So the gradient's norm of every loss is measured at the picture, as the adaptive weight of VQGAN does
(Esser et al. 2021, there at the last layer), smoothed as the run goes, and the weights are set so that the shares are
those of the look, while the sum of all pulls stays what it is with the recipe's own weights (as in GradNorm, Chen et
al. 2018).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from styletrainer.recipe import Turn

# Shares of the pull at the picture. Other terms (smoothness, grid, a teacher) keep the weights that they have.
LOOKS = {
    "subtle": {"content": 0.50, "style": 0.45, "adversarial": 0.05},
    "balanced": {"content": 0.25, "style": 0.70, "adversarial": 0.05},
    "bold": {"content": 0.10, "style": 0.85, "adversarial": 0.05},
}
_EVERY = 4  # turns of a style between two measurements, each a backward pass a loss through the perceptual network
_DECAY = 0.95  # of the running norms, a measurement
_FARTHEST = 30.0  # a weight moves at most so many times away from the recipe's own


class Balance:
    """Running gradient norms of the losses that a look shares out, for each style on its own."""

    def __init__(self, look: str, fabric: Fabric) -> None:
        self.shares, self.fabric = LOOKS[look], fabric
        self.norms: dict[int, dict[str, float]] = {}
        self.turns: dict[int, int] = {}

    def state(self) -> dict[str, Any]:
        return {"norms": self.norms, "turns": self.turns}

    def load(self, state: dict[str, Any]) -> None:
        self.norms, self.turns = state["norms"], state["turns"]

    def weighed(self, turn: Turn) -> Turn:
        """The turn with the weights of the look, where it has an ``output``; measured at times, before its step."""
        names = [name for name in self.shares if name in turn.terms and turn.weights.get(name, 1.0)]
        if turn.output is None or not names:
            return turn
        count = self.turns.get(turn.style, 0)
        if count % _EVERY == 0:
            self._measure(turn, turn.output, names)
        self.turns[turn.style] = count + 1
        return dataclasses.replace(turn, weights={**turn.weights, **self._weights(turn, names)})

    def _measure(self, turn: Turn, output: Tensor, names: list[str]) -> None:
        found = torch.stack([_pull(turn.terms[name], output) for name in names])
        mean = self.fabric.all_reduce(found, reduce_op="mean")
        assert isinstance(mean, Tensor)
        before = self.norms.get(turn.style, {})
        now = dict(zip(names, mean.tolist(), strict=True))
        self.norms[turn.style] = {k: v + _DECAY * (before.get(k, v) - v) for k, v in now.items()}

    def _weights(self, turn: Turn, names: list[str]) -> dict[str, float]:
        own = {name: turn.weights.get(name, 1.0) for name in names}
        pulls = {name: own[name] * self.norms[turn.style][name] for name in names}
        unit = sum(pulls.values()) / sum(self.shares[name] for name in names)
        return {
            name: own[name] * min(max(self.shares[name] * unit / max(pull, 1e-20), 1 / _FARTHEST), _FARTHEST)
            for name, pull in pulls.items()
        }


def _pull(term: Tensor, output: Tensor) -> Tensor:
    """Norm of the gradient at an item's picture (N, C, H, W), mean over the items.

    ``term`` is a mean over the items, so N times its gradient is that of an item's own loss: the same in any batch.
    """
    (gradient,) = torch.autograd.grad(term, output, retain_graph=True)
    return gradient.float().flatten(1).norm(dim=1).mean() * len(gradient)
