"""The generator's optimiser: Muon for kernels, Adam for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_RMS = 0.2  # of a kernel's step, in units of the learning rate: about that of Adam's steps (Liu et al. 2025)


class Muon(torch.optim.Adam):
    """Kernels (O, I, K, K) step along their momentum made orthogonal (Jordan et al. 2024); the rest by Adam.

    Every direction that a layer's kernel could learn gets a step of the same size, also those that few photos ask
    for. At equal steps the losses come out lower than with Adam. PyTorch's own Muon takes matrices only.

    Args:
        groups: parameter groups with ``pace``, a factor that the caller's schedule applies; split by kind here.
        lr: learning rate of both.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        split = []
        for group in groups:
            kernels = [p for p in group["params"] if p.ndim == 4]
            others = [p for p in group["params"] if p.ndim != 4]
            split += [group | {"params": ps, "kernels": ps is kernels} for ps in (kernels, others) if ps]
        super().__init__(split, lr, betas=(0.9, 0.99))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        kernels = {p: p.grad for g in self.param_groups if g["kernels"] for p in g["params"] if p.grad is not None}
        for group in self.param_groups:
            for kernel in group["params"] if group["kernels"] else ():
                if kernel in kernels:
                    self._step_kernel(kernel, group["lr"])
                    kernel.grad = None  # Adam passes over it
        super().step(closure)
        for kernel, gradient in kernels.items():
            kernel.grad = gradient

    def _step_kernel(self, kernel: nn.Parameter, lr: float) -> None:
        assert kernel.grad is not None
        state = self.state[kernel]
        if not state:
            state["step"] = torch.tensor(0.0)  # Adam looks for one in every state that it loads
            state["momentum"] = torch.zeros_like(kernel)
        state["momentum"].lerp_(kernel.grad, 1 - _MOMENTUM)
        ahead = kernel.grad.lerp(state["momentum"], _MOMENTUM)  # Nesterov's
        direction = orthogonal(ahead.flatten(1))
        kernel.add_(direction.reshape(kernel.shape), alpha=-lr * _RMS * max(direction.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly U V^T of the matrix U S V^T: singular values of about 0.7 to 1.2, by Newton-Schulz in five steps."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-12)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide else x.T


def parameter_groups(generator: nn.Module) -> list[dict[str, Any]]:
    """What learns; a style's own parameters five times as fast, since they have a turn less often and far to go."""
    learning = {name: p for name, p in generator.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for name, p in learning.items() if not name.endswith("affine")], "pace": 1.0},
        {"params": [p for name, p in learning.items() if name.endswith("affine")], "pace": 5.0},
    ]
    return [group for group in groups if group["params"]]
