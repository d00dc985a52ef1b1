"""The two views of a step: one photo, moved, lit anew and with noise, and nothing else between them."""

from __future__ import annotations

import pytest
import torch

from styletrainer.data.views import generate_views
from styletrainer.losses import equivariance_loss
from styletrainer.recipe import Step


class Copy(torch.nn.Module):
    """A style that leaves the photo as it is."""

    margin = 32


STEP = Step(number=3, done=0.0, seed=0, batch=4)


@pytest.mark.parametrize("seed", range(8))
def test_only_light_and_noise_are_left_when_the_movement_is_taken_back(seed: int) -> None:
    """Also along the borders of what is seen as a whole picture, and for far movements."""
    torch.manual_seed(seed)
    photo = 0.3 + 0.4 * torch.rand(4, 3, 160, 176)
    copy = Copy()
    copy.forward = lambda x: x  # type: ignore[method-assign, assignment]
    output, moved, shift, light = generate_views(copy, photo, None, STEP, second=True)
    assert moved is not None and all(1 <= abs(way) <= 48 for way in shift)
    torch.testing.assert_close(output, photo[:, :, 32:-32, 32:-32])
    assert equivariance_loss(moved - light, output, shift) == pytest.approx(0.015**2, rel=0.15)
    assert light.abs().max() > 0.005


def test_half_of_the_batch_is_seen_with_a_border() -> None:
    seen: list[torch.Tensor] = []
    copy = Copy()
    copy.forward = lambda x: seen.append(x) or x  # type: ignore[method-assign, assignment, func-returns-value]
    photo = torch.rand(64, 3, 96, 96)
    output, moved, _, _ = generate_views(copy, photo, None, STEP, second=False)
    assert moved is None and output.shape == (64, 3, 32, 32)
    whole = [bool((x[:, :32] == x[:, 32:33]).all()) for x in seen[0]]
    assert 16 < sum(whole) < 48
    assert all(torch.equal(x, y) for x, y, bordered in zip(seen[0], photo, whole, strict=True) if not bordered)


def test_the_losses_see_no_border_and_the_second_view_does() -> None:
    seen: list[torch.Tensor] = []
    copy = Copy()
    copy.forward = lambda x: seen.append(x) or x  # type: ignore[method-assign, assignment, func-returns-value]
    photo = torch.rand(64, 3, 96, 96)
    _, moved, _, _ = generate_views(copy, photo, None, STEP, second=True)
    first, second = seen[0].chunk(2)
    assert moved is not None and torch.equal(first, photo)
    assert 16 < sum(bool((x[:, :32] == x[:, 32:33]).all()) for x in second) < 48


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
