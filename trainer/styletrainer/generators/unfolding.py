"""From the folded network back to the one that trains: `Realtime.fold` the other way round."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.generators.branches import _EPSILON, BranchedConv
from styletrainer.generators.realtime import Realtime

Kernels = dict[str, tuple[Tensor, Tensor]]


def layers_of(generator: Realtime) -> dict[str, BranchedConv]:
    """Its convolutions by name, in the order of the network."""
    return {name: module for name, module in generator.named_modules() if isinstance(module, BranchedConv)}


@torch.no_grad()
def unfold(generator: Realtime, folded: Kernels, photos: Iterable[Tensor]) -> None:
    """Make ``generator`` compute what the network it was folded to computes, and ready to learn further.

    What folding merged cannot be told apart again, and need not be: kernels get filters of norm 1, or nearly, as they
    had at the start of their training, and the statistics of batch normalisation are measured.

    Args:
        generator: of the size and number of styles of the folded one; overwritten.
        folded: layer name -> kernel (O, I, K, K) and table (S, 2, O) of scale and shift, in the units of ``fold``.
        photos: RGB float (N, 3, H, W), 0-1, sides in multiples of the stride; several batches.
    """
    for name, conv in layers_of(generator).items():
        kernel, table = (tensor.float() for tensor in folded[name])
        if name == "stem":
            kernel = kernel.flip(1) * 255
        if name == "out":
            kernel = kernel.reshape(3, 16, *kernel.shape[1:]).flip(0).flatten(0, 1) / 255
            table = table.reshape(-1, 2, 3, 16).flip(2).flatten(2) / torch.tensor([1.0, 255.0])[:, None]
        if conv.residual and generator.styles == 1:
            kernel = kernel - F.pad(torch.eye(len(kernel))[:, :, None, None], (1, 1, 1, 1))
        scale = table[:, 0]
        if conv.normalised:
            norm = kernel.square().sum((1, 2, 3)).sqrt().clamp(min=1e-8)
            if generator.styles > 1:  # its fold rounds the bare kernel, which a power of two leaves as it is
                norm = norm.log2().round().exp2()
            kernel, scale = kernel / norm[:, None, None, None], scale * norm
            conv.get_buffer("mean").zero_()
            conv.get_buffer("variance").fill_(1 - _EPSILON)
        conv.direction.copy_(kernel)
        if conv.point is not None:
            conv.point.zero_()
        conv.affine.copy_(torch.stack([scale, table[:, 1]], 1))
    _measure_statistics(generator, list(photos))


def _measure_statistics(generator: Realtime, photos: list[Tensor]) -> None:
    """Mean and variance of every normalised layer in every style; what the network computes stays."""
    layers = [conv for conv in layers_of(generator).values() if conv.normalised]
    found = []
    generator.eval()
    for style in range(generator.styles):
        sums = {conv: torch.zeros(2, conv.direction.shape[0], dtype=torch.float64) for conv in layers}
        hooks = [conv.register_forward_hook(_adds_to(sums[conv], len(photos))) for conv in layers]
        for photo in photos:
            generator(photo, None if generator.styles == 1 else torch.eye(generator.styles)[style])
        for hook in hooks:
            hook.remove()
        found.append(sums)
    for style, sums in enumerate(found):
        for conv, (mean, square) in sums.items():
            variance = square - mean.square()
            scale, shift = conv.affine[style]  # with mean 0 and variance 1
            conv.affine[style] = torch.stack([scale * (variance + _EPSILON).sqrt(), shift + mean * scale])
            conv.get_buffer("mean")[style], conv.get_buffer("variance")[style] = mean, variance


def _adds_to(sums: Tensor, batches: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A hook that adds means of a layer's convolution and of its square, of one of ``batches``, to ``sums`` (2, O)."""

    def hook(conv: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(conv, BranchedConv)
        y = F.conv2d(inputs[0], conv.kernel(), None, conv.stride, conv.padding).double()
        sums.add_(torch.stack([y.mean((0, 2, 3)), y.square().mean((0, 2, 3))]) / batches)

    return hook
