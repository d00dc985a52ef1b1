"""``--stop-when-good``: a run that ends when it has nothing more to gain, and whose rate has fallen by then.

A cosine over all steps must know where the run ends. So such a run holds its rate until the loss is on a plateau, and
lets it fall to zero then, over a share of the steps so far (warm-up, stable, decay: Hu et al., MiniCPM, 2024). Most of
what a fall of the rate gains comes in it: stopping on the plateau itself would throw that away.

The loss is the generator's, with the recipe's own weights and without what its critic says: a critic that learns
moves its own goal.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from styletrainer.recipe import Turn

FALL = 0.25  # steps in which the rate falls to zero, of those before the plateau was found
_LAST = 0.8  # of steps or minutes: where the fall begins without a plateau, so that it ends with them
_GAIN = 0.01  # less than this share is no gain


class Stopping:
    """Means of the loss over windows of ``patience`` steps; a window without gain is the plateau."""

    def __init__(self, patience: int, fabric: Fabric) -> None:
        self.patience, self.fabric = patience, fabric
        self.sum = torch.zeros((), device=fabric.device)
        self.steps = 0
        self.best: float | None = None
        self.plateau: int | None = None  # step at which it was found
        self.why = ""

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("steps", "best", "plateau", "why")}
        return kept | {"sum": float(self.sum)}

    def load(self, state: dict[str, Any]) -> None:
        self.sum = torch.tensor(state["sum"], device=self.fabric.device)
        for name in ("steps", "best", "plateau", "why"):
            setattr(self, name, state[name])

    def add(self, losses: list[Tensor], step: int) -> None:
        """Count a step, which makes ``step`` of them; ``losses`` are those of its turns."""
        # Of all processes, at once: any of them can be asked for its state.
        loss = self.fabric.all_reduce(torch.stack(losses).sum(), reduce_op="mean")
        assert isinstance(loss, Tensor)
        self.sum = self.sum + loss
        self.steps += 1
        if self.plateau is not None or self.steps < self.patience:
            return
        now, best = float(self.sum) / self.steps, self.best
        self.sum, self.steps = torch.zeros_like(self.sum), 0
        if best is None or now < best - _GAIN * abs(best):
            self.best = now
            return
        self.plateau = step
        self.why = (
            f"the loss was {best:.4g} and is {now:.4g}, not {_GAIN:.0%} less, after {self.patience} more steps: "
            f"the rate falls from step {step}, to zero at step {self.end}"
        )

    @property
    def end(self) -> int:
        assert self.plateau is not None
        return self.plateau + max(round(FALL * self.plateau), 1)

    def fallen(self, step: int, done: float) -> float:
        """How far the fall of the rate is, 0-1, before ``step``, with the share ``done`` of the budget used up."""
        by_budget = (done - _LAST) / (1 - _LAST)
        by_plateau = 0.0 if self.plateau is None else (step - self.plateau) / (self.end - self.plateau)
        return min(max(by_budget, by_plateau, 0.0), 1.0)


def judged(turn: Turn) -> Tensor:
    """What of a generator's turn says whether the run still gains, detached; the weights are the recipe's own."""
    kept = {name: term.detach() for name, term in turn.terms.items() if not name.startswith("adversarial")}
    return Turn(turn.player, kept, turn.weights).total()
