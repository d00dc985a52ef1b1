"""The pixels of one picture as what is optimised: L-BFGS (Liu & Nocedal 1989) or Adam, and the best picture seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Optimizer = Literal["lbfgs", "adam"]
HISTORY = 20
ADAM_RATE = 0.02  # of the range 0-1


class PixelSearch:
    """Goes down ``loss`` from ``start``; ``best`` is the picture of the lowest value that any evaluation gave.

    ``loss`` maps a picture like ``start`` to a scalar. With ``bf16`` it is computed in autocast: a third of the time on
    processors that have it, and a value that is off by some thousandths.
    """

    def __init__(
        self, start: Tensor, loss: Callable[[Tensor], Tensor], *, optimizer: Optimizer = "lbfgs", bf16: bool = False
    ) -> None:
        self.loss, self.bf16 = loss, bf16
        self.best, self.lowest = start, float("inf")
        self._picture = start.clone().requires_grad_()
        self._search: torch.optim.Optimizer = (
            torch.optim.Adam([self._picture], ADAM_RATE) if optimizer == "adam" else _lbfgs(self._picture)
        )

    def run(self, iterations: int) -> None:
        """So many iterations; of L-BFGS, as many evaluations at most, and one more where a line search needs it."""
        if isinstance(self._search, torch.optim.LBFGS):
            self._search.param_groups[0].update(max_iter=iterations, max_eval=iterations)
            self._search.step(self._evaluate)
            return
        for _ in range(iterations):
            self._search.step(self._evaluate)

    def _evaluate(self) -> float:
        with torch.enable_grad(), torch.autocast(self._picture.device.type, torch.bfloat16, enabled=self.bf16):
            value = self.loss(self._picture)
        self._picture.grad = torch.autograd.grad(value, self._picture)[0].contiguous()
        found = value.item()
        if found < self.lowest:
            self.best, self.lowest = self._picture.detach().clone(), found
        return found


def _lbfgs(picture: Tensor) -> torch.optim.LBFGS:
    # No tolerances: losses are in units of their targets, and a change too small for them is still seen in a picture.
    return torch.optim.LBFGS(
        [picture], history_size=HISTORY, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
    )
