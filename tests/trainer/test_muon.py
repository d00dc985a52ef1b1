"""The optimiser against its definition: kernels step in an orthogonal direction, the rest as Adam does."""

from __future__ import annotations

import copy

import pytest
import torch

from styletrainer.run.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonal_is_the_matrix_without_its_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T  # diagonal, were it exactly U V^T
    values = found.diagonal()
    assert values.min() > 0.6 and values.max() < 1.3
    assert (found - values.diag()).abs().max() < 1e-4
    assert not orthogonal(torch.zeros(shape)).any()


def test_kernel_and_bias_step_as_they_should() -> None:
    torch.manual_seed(0)
    kernel, bias = torch.nn.Parameter(torch.randn(4, 5, 3, 3)), torch.nn.Parameter(torch.randn(4))
    alone = torch.nn.Parameter(bias.detach().clone())
    ours = Muon([{"params": [kernel, bias], "pace": 1.0}], 0.01)
    adam = torch.optim.Adam([alone], 0.01, betas=(0.9, 0.99))
    before, momentum = kernel.detach().clone(), torch.zeros(4, 45)
    for _ in range(3):
        gradient = torch.randn(4, 5, 3, 3)
        kernel.grad, bias.grad = gradient, gradient.mean((1, 2, 3))
        alone.grad = bias.grad.clone()
        ours.step()
        adam.step()
        flat = gradient.flatten(1)
        momentum = 0.95 * momentum + 0.05 * flat
        step = orthogonal(0.05 * flat + 0.95 * momentum)
        before -= 0.01 * 0.2 * 45**0.5 * step.reshape(4, 5, 3, 3)
        assert kernel.grad is gradient  # left for whoever clips or logs it
    torch.testing.assert_close(kernel.detach(), before, rtol=1e-5, atol=1e-6)
    assert torch.equal(bias, alone)
    assert step.square().mean().sqrt() == pytest.approx(45**-0.5, rel=0.3)


def test_state_survives_saving_and_a_parameter_without_gradient_stays() -> None:
    torch.manual_seed(0)
    start = [torch.randn(4, 3, 3, 3), torch.randn(2, 3, 3, 3)]
    kernels, again = ([torch.nn.Parameter(k.clone()) for k in start] for _ in range(2))
    first = Muon([{"params": kernels, "pace": 1.0}], 0.01)
    second = Muon([{"params": again, "pace": 1.0}], 0.01)
    gradients = [torch.randn(4, 3, 3, 3) for _ in range(4)]
    for number, gradient in enumerate(gradients):
        kernels[0].grad = gradient
        first.step()
        if number == 1:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            again[0].data.copy_(kernels[0].data)
        if number > 1:
            again[0].grad = gradient
            second.step()
    assert torch.equal(kernels[0], again[0])
    assert torch.equal(kernels[1], start[1])
