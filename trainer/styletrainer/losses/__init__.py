"""Losses, in units of their targets: 1.0 means as far from the target as a blank is.

Pictures are RGB float (N, 3, H, W), 0-1; activations (N, C, H, W).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Adversarial = Literal["bce", "lsgan", "hinge"]
_EPSILON = 1e-12


def gram(features: Tensor) -> Tensor:
    """Gram matrix F F^T / (C H W): (N, C, H, W) -> (N, C, C), float32 (Gatys et al. 2016)."""
    n, c, h, w = features.shape
    # In parts that are summed in float32: one bf16 sum over a whole picture loses too much, and a
    # float32 copy of the activations takes three times as long. Channels-last activations are not copied.
    parts = math.gcd(h * w, 8)
    rows = features.permute(0, 2, 3, 1).reshape(n * parts, h * w // parts, c)
    partial: Tensor = _SelfProduct.apply(rows)  # type: ignore[no-untyped-call]
    return partial.reshape(n, parts, c, c).sum(1, dtype=torch.float32) / (c * h * w)


class _SelfProduct(torch.autograd.Function):
    """X (N, K, C) -> X^T X (N, C, C), whose gradient X (G + G^T) is one product instead of two and their sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(rows)
        return torch.bmm(rows.transpose(1, 2), rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (rows,) = ctx.saved_tensors
        both: Tensor = torch.bmm(rows, (gradient + gradient.transpose(1, 2)).to(rows.dtype))
        return both


def content_loss(output: Tensor, photo: Tensor) -> Tensor:
    """Mean squared distance of activations (Johnson et al. 2016), over the photo's own mean square.

    Each picture is normalised by itself, so that a batch split over processes gives the same gradient.
    """
    distance = (output - photo).square().mean(dim=(1, 2, 3), dtype=torch.float32)
    return (distance / (photo.square().mean(dim=(1, 2, 3), dtype=torch.float32) + _EPSILON)).mean()


def style_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of Gram matrices (Gatys et al. 2016), over the artwork's own mean square.

    ``output`` (N, C, H, W) activations, ``target`` (1, C, C) the artwork's Gram matrix.
    """
    return (gram(output) - target).square().mean() / (target.square().mean() + _EPSILON)


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbours, both axes."""
    down = (picture[:, :, 1:] - picture[:, :, :-1]).square().mean()
    right = (picture[:, :, :, 1:] - picture[:, :, :, :-1]).square().mean()
    return down + right


def grid_loss(picture: Tensor, period: int = 8, window: int = 4) -> Tensor:
    """Energy of what repeats every ``period`` pixels, over the energy of all detail.

    The picture's detail (minus its local mean) is averaged over ``window`` x ``window`` neighbouring cells,
    phase by phase: texture that follows the photo averages out, a stamp in every cell stays.
    """
    # A mean over 9 x 9, in two passes: a quarter of the work.
    rows = F.avg_pool2d(F.pad(picture, (4, 4, 4, 4), mode="replicate"), (9, 1), 1)
    detail = picture - F.avg_pool2d(rows, (1, 9), 1)
    energy = detail.square().mean(dim=(1, 2, 3)) + 1e-4
    height, width = (side // period * period for side in detail.shape[2:])
    phases = F.pixel_unshuffle(detail[:, :, :height, :width], period)
    return (F.avg_pool2d(phases, window, 1).square().mean(dim=(1, 2, 3)) / energy).mean()


def halo_loss(picture: Tensor, photo: Tensor, margin: int) -> Tensor:
    """Energy of the light, or of the other colour, that lies around dark forms: what a halo is.

    Where coarse colours follow how light the photo is, there is none. They are fitted, picture by picture, by the
    photo's coarse lightness and by how far that is below and above its surroundings, some 10 pixels around; what the
    last of these explains is the loss, as a mean square over pixels and colours. ``photo`` has ``margin`` more pixels
    on every side, a multiple of 4.
    """
    cut = slice(margin // 4, -(margin // 4))
    light = F.avg_pool2d(photo.float().mean(1, keepdim=True), 4)
    coarse, around = _mean_around(light, 3), _mean_around(_mean_around(light, 5), 5)
    coarse, higher = (x[:, :, cut, cut].flatten(1) for x in (coarse, coarse - around))
    others: list[Tensor] = []
    for signal in (coarse, -F.relu(-higher), F.relu(higher)):
        rest = signal - signal.mean(1, keepdim=True)
        for other in others:  # Gram-Schmidt, since autocast would round what a solver multiplies
            rest = rest - (rest * other).mean(1, keepdim=True) / (other.square().mean(1, keepdim=True) + 1e-8) * other
        others.append(rest)
    rim = others[-1]
    painted = _mean_around(F.avg_pool2d(picture.float(), 4), 3).flatten(2)
    explained = (painted * rim[:, None]).mean(2).square().mean(1) / (rim.square().mean(1) + 1e-6)
    return explained.mean()


def calm_loss(picture: Tensor, photo: Tensor, margin: int) -> Tensor:
    """Mean square of the detail that is painted where the photo has none; forms and their surroundings are free.

    Detail is what differs from the mean of 9 x 9 pixels. A photo's pixel counts by how little its lightness varies in
    such windows around it: half at a standard deviation of 0.015. ``photo`` has ``margin`` more pixels on every side.
    """
    cut = slice(margin - 8, 8 - margin)
    light = photo[:, :, cut, cut].float().mean(1, keepdim=True)
    variance = _mean_around(light.square(), 9) - _mean_around(light, 9).square()
    even = 1 / (1 + _mean_around(variance, 9)[:, :, 8:-8, 8:-8] / 0.015**2)
    painted = picture.float()
    return (even * (painted - _mean_around(painted, 9)).square()).mean()


def form_loss(picture: Tensor, photo: Tensor, margin: int) -> Tensor:
    """How far the picture's forms are from the photo's: 1 less their local correlation, where the photo has any.

    Lightness at half the resolution, in windows of 18 pixels of the picture. Their contrast does not count, so that a
    face in the shade weighs as much as one in the sun, and a palette is free. A window counts by how much the photo's
    lightness varies in it: half at a standard deviation of 0.03. ``photo`` has ``margin`` more pixels on every side.
    """
    cut = slice(margin, -margin)
    wanted, painted = (F.avg_pool2d(x.float().mean(1, keepdim=True), 2) for x in (photo[:, :, cut, cut], picture))
    wanted, painted = (x - x.mean((2, 3), keepdim=True) for x in (wanted, painted))
    means = [_mean_around(x, 9) for x in (wanted, painted, wanted * wanted, painted * painted, wanted * painted)]
    own, other = means[2] - means[0].square(), means[3] - means[1].square()
    together = means[4] - means[0] * means[1]
    correlation = together / ((own.relu() + 1e-4) * (other.relu() + 1e-4)).sqrt()
    return (own / (own + 0.03**2) * (1 - correlation)).mean()


def _mean_around(picture: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(picture, window, 1, window // 2, count_include_pad=False)


def critic_loss(real: Tensor, fake: Tensor, kind: Adversarial) -> Tensor:
    """Loss of the discriminator on patch logits, any shape; patches are averaged.

    bce: Goodfellow et al. 2014; lsgan: Mao et al. 2017; hinge: Lim & Ye 2017.
    """
    real, fake = real.float(), fake.float()
    if kind == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "lsgan":
        return ((real - 1).square().mean() + fake.square().mean()) / 2
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def fooling_loss(fake: Tensor, kind: Adversarial) -> Tensor:
    """Adversarial loss of the generator on patch logits of its output (non-saturating for bce)."""
    fake = fake.float()
    if kind == "bce":
        return F.softplus(-fake).mean()
    if kind == "lsgan":
        return (fake - 1).square().mean() / 2
    return -fake.mean()


def equivariance_loss(shifted_output: Tensor, output: Tensor, shift: tuple[int, int]) -> Tensor:
    """Squared change of the style when the photo moves by ``shift`` (dy, dx) pixels, down and right, or up and left.

    ``shifted_output`` is G of the photo rolled by ``shift``; away from the border it should be the rolled
    output. Patterns locked to the pixel grid, and flicker, are exactly what breaks this.
    """
    there = [slice(max(way, 0), size + min(way, 0)) for way, size in zip(shift, output.shape[2:], strict=True)]
    here = [slice(max(-way, 0), size + min(-way, 0)) for way, size in zip(shift, output.shape[2:], strict=True)]
    return F.mse_loss(shifted_output[:, :, there[0], there[1]], output[:, :, here[0], here[1]])
