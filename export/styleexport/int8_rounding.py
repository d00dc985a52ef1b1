"""Rounding a convolution's weights to 8 bits so that its results stay, not its weights.

Every folded kernel has an identity branch in it (``styletrainer.generators.realtime``): one weight near 1, which
sets the step of 8 bits, and hundreds of small ones, which plain rounding spoils. So weights are rounded one
after the other, and those still to come make up for the error, as real inputs show it (GPTQ, Frantar et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST = 127  # symmetric: -128 is not used
# Processors with AVX2 but without VNNI add the products of two weights with bytes up to 255 in 16 bits.
_LARGEST_PAIR = 32767 // 255
_DAMPING = 1e-2  # of an input's mean square: without it rare inputs count for too little
_PLACES = 6400  # output pixels that are looked at in each picture; with 800 kernels fit those, and others less

Floats = NDArray[np.float64]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Convolution:
    """Kernel (O, I, K, K), bias (O,), and the attributes of the ONNX operator."""

    kernel: Array
    bias: Array
    stride: int
    padding: tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class Rounded:
    """Kernel in 8 bits (O, I, K, K), its step by output channel (O,), and the bias (O,) that goes with it."""

    kernel: NDArray[np.int8]
    step: Array
    bias: Array


def rounded(conv: Convolution, before: list[Array], now: list[Array]) -> Rounded:
    """Round ``conv`` so that on the inputs ``now`` it gives what it gave on ``before``.

    Args:
        conv: in float32.
        before: inputs (1, I, H, W) of the exact network, one of each picture.
        now: the same in the network whose earlier layers are rounded; the bias and the weights make up for that.
    """
    exact = np.hstack([conv.kernel.reshape(len(conv.kernel), -1), conv.bias[:, None]]).astype(np.float64)
    seen, change = _moments(conv, before, now)
    best = exact + np.linalg.solve(seen, (exact @ change).T).T
    second, largest = np.sort(np.abs(best[:, :-1]))[:, -2:].T
    step = np.maximum(largest / _LARGEST, (largest + second) / _LARGEST_PAIR)
    step = np.maximum(step, max(step.max(), 1e-9) * 1e-3)  # keeps the bias, in units of it, within 32 bits
    whole, bias = _rounded_in_turn(best, seen, step)
    return Rounded(whole.reshape(conv.kernel.shape).astype(np.int8), step.astype(np.float32), bias.astype(np.float32))


def _moments(conv: Convolution, before: list[Array], now: list[Array]) -> tuple[Floats, Floats]:
    """Second moments of what an output pixel sees in ``now``, damped; and of ``before`` less ``now`` with ``now``.

    Both (N + 1, N + 1) with N = I * K * K; the last one stands for the bias, an input of 1.
    """
    random = np.random.default_rng(0)
    size = conv.kernel[0].size + 1
    seen, change = np.zeros((size, size)), np.zeros((size, size))
    for exact, changed in zip(before, now, strict=True):
        first, second = _columns(conv, random, exact, changed)
        seen += second @ second.T
        change += (first - second) @ second.T
    return seen + _DAMPING * np.diag(seen)[:-1].mean() * np.eye(size), change


def _columns(conv: Convolution, random: np.random.Generator, *inputs: Array) -> list[Floats]:
    """What the same few output pixels see in each of ``inputs``: (N + 1, places)."""
    top, left, bottom, right = conv.padding
    edge = conv.kernel.shape[2:]
    windows = [
        np.lib.stride_tricks.sliding_window_view(
            np.pad(x[0], ((0, 0), (top, bottom), (left, right))), edge, axis=(1, 2)
        )[:, :: conv.stride, :: conv.stride]
        for x in inputs
    ]
    height, width = windows[0].shape[1:3]
    y, x = np.divmod(random.permutation(height * width)[:_PLACES], width)
    chosen = [w[:, y, x].transpose(0, 2, 3, 1).reshape(-1, len(y)) for w in windows]
    return [np.vstack([c, np.ones(len(y))]).astype(np.float64) for c in chosen]


def _rounded_in_turn(weights: Floats, seen: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Whole weights (O, N) in units of ``step``, and the bias (O,), which is never rounded."""
    count = weights.shape[1] - 1
    # Strong inputs first, while there are many weights left that can make up for them. The bias comes last.
    order = np.append(np.argsort(-np.diag(seen)[:count]), count)
    share = np.linalg.cholesky(np.linalg.inv(seen[np.ix_(order, order)])).T
    left, whole = weights[:, order], np.zeros((len(weights), count))
    for index in range(count):
        whole[:, index] = np.clip(np.rint(left[:, index] / step), -_LARGEST, _LARGEST)
        error = left[:, index] - whole[:, index] * step
        left[:, index + 1 :] -= np.outer(error / share[index, index], share[index, index + 1 :])
    return whole[:, np.argsort(order[:count])], left[:, count]
