"""The two views of a step: one photo, moved, lit anew and with noise, and nothing else between them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from styletrainer.data.views import generate_views
from styletrainer.losses import equivariance_loss
from styletrainer.recipe import Step


class Copy(torch.nn.Module):
    """A style that leaves the photo as it is."""

    margin = 32


STEP = Step(number=3, done=0.0, seed=0, batch=4)


def views(photo: torch.Tensor, **options: Any) -> tuple[Any, list[torch.Tensor]]:
    """The views of a generator that changes nothing, and what it was shown."""
    seen: list[torch.Tensor] = []
    copy = Copy()
    copy.forward = lambda x: seen.append(x) or x  # type: ignore[method-assign, assignment, func-returns-value]
    return generate_views(copy, photo, None, STEP, **options), seen


@pytest.mark.parametrize("context", [32, 48])
@pytest.mark.parametrize("seed", range(8))
def test_only_light_and_noise_are_left_when_the_movement_is_taken_back(seed: int, context: int) -> None:
    """Also along the borders of what is seen as a whole picture, and for far movements."""
    torch.manual_seed(seed)
    photo = 0.3 + 0.4 * torch.rand(4, 3, 96 + 2 * context, 112 + 2 * context)
    (output, moved, shift, light), _ = views(photo, second=True, context=context)
    assert moved is not None and all(1 <= abs(way) <= 48 for way in shift)
    torch.testing.assert_close(output, photo[:, :, context:-context, context:-context])
    assert equivariance_loss(moved - light, output, shift) == pytest.approx(0.016**2, rel=0.2)
    assert light.abs().max() > 0.005


def test_noise_is_nearly_grey_and_coarser_than_a_pixel() -> None:
    photo = torch.full((8, 3, 160, 160), 0.5)
    (_, moved, _, light), _ = views(photo, second=True)
    noise = moved - light - 0.5
    grey = noise.mean(1, keepdim=True)
    assert grey.var() / noise.var() > 0.8
    coarse = torch.nn.functional.avg_pool2d(grey, 4)
    assert coarse.var() / grey.var() == pytest.approx(0.4, abs=0.15), "white noise would have a sixteenth"


def test_half_of_the_batch_is_seen_with_a_border() -> None:
    photo = torch.rand(64, 3, 96, 96)
    (output, moved, _, _), seen = views(photo, second=False)
    assert moved is None and output.shape == (64, 3, 32, 32)
    whole = [bool((x[:, :32] == x[:, 32:33]).all()) for x in seen[0]]
    assert 16 < sum(whole) < 48
    assert all(torch.equal(x, y) for x, y, bordered in zip(seen[0], photo, whole, strict=True) if not bordered)


def test_every_other_step_the_losses_see_far_and_the_second_view_never_does() -> None:
    photo = torch.rand(64, 3, 160, 160)
    far = []
    for seed in range(32):
        torch.manual_seed(seed)
        (output, moved, _, light), (first, second) = views(photo, second=True, context=64)
        far.append(first.shape[2] == 160)
        assert torch.equal(first, photo if far[-1] else photo[:, :, 32:-32, 32:-32])
        assert second.shape == (64, 3, 96, 96) and output.shape == moved.shape == (64, 3, 32, 32)
        assert light.shape == (64, 1, 32, 32)
        assert torch.equal(output, photo[:, :, 64:-64, 64:-64])
        assert 16 < sum(bool((x[:, :32] == x[:, 32:33]).all()) for x in second) < 48
    assert 8 < sum(far) < 24


@pytest.mark.parametrize("shift", [(3, 5), (-3, 5), (3, -5), (-3, -5)])
def test_equivariance_looks_only_at_what_both_pictures_show(shift: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, 40, 50)
    rolled = picture.roll(shift, (2, 3))
    assert equivariance_loss(rolled, picture, shift) == 0
    rows = slice(0, shift[0]) if shift[0] > 0 else slice(shift[0], None)
    rolled[:, :, rows] = 9.0
    assert equivariance_loss(rolled, picture, shift) == 0, "what came into the picture"
    rolled[:, :, 20, 25] += 1
    assert equivariance_loss(rolled, picture, shift) == pytest.approx(1 / (37 * 45))
