"""Losses against values worked out by hand or by numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from styletrainer import losses


def test_gram_is_f_ft_over_chw() -> None:
    features = torch.arange(12, dtype=torch.float32).reshape(1, 2, 2, 3)
    flat = np.arange(12, dtype=np.float64).reshape(2, 6)
    np.testing.assert_allclose(losses.gram(features)[0].numpy(), flat @ flat.T / (2 * 2 * 3), rtol=1e-6)


def test_gram_of_bf16_features_is_summed_in_float32() -> None:
    features = torch.full((1, 1, 100, 100), 1.0, dtype=torch.bfloat16)
    assert losses.gram(features).item() == pytest.approx(1.0, rel=2e-3)  # bf16 sums of ones stop at 256


def test_gradient_of_the_gram_matrix() -> None:
    features = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 3)  # not symmetric
    assert torch.autograd.gradcheck(lambda x: (losses.gram(x).double() * weights).sum(), features, atol=1e-3, eps=1e-3)


def test_content_loss_normalises_each_picture_by_itself() -> None:
    photo = torch.stack([torch.full((1, 2, 2), 2.0), torch.full((1, 2, 2), 10.0)])
    output = photo + torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    assert losses.content_loss(output, photo).item() == pytest.approx(0.25, rel=1e-6)


def test_style_loss_is_zero_on_the_artwork_and_one_on_a_blank() -> None:
    features = torch.rand(1, 4, 8, 8)
    target = losses.gram(features)
    assert losses.style_loss(features, target).item() == pytest.approx(0.0, abs=1e-9)
    assert losses.style_loss(torch.zeros_like(features), target).item() == pytest.approx(1.0, rel=1e-5)


def test_total_variation_of_a_ramp() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    assert losses.total_variation(ramp).item() == pytest.approx(1.0)  # 1 along x, 0 along y


@pytest.mark.parametrize(
    ("kind", "critic", "fooling"),
    [
        ("bce", np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)), np.log1p(np.exp(1.0))),
        ("lsgan", (1.0 + 1.0) / 2, (-1.0 - 1.0) ** 2 / 2),
        ("hinge", 0.0 + 0.0, 1.0),
    ],
)
def test_adversarial_forms(kind: losses.Adversarial, critic: float, fooling: float) -> None:
    real, fake = torch.full((3, 1, 2, 2), 2.0), torch.full((3, 1, 2, 2), -1.0)
    assert losses.critic_loss(real, fake, kind).item() == pytest.approx(critic, rel=1e-5, abs=1e-7)
    assert losses.fooling_loss(fake, kind).item() == pytest.approx(fooling, rel=1e-5)


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_each_side_minimises_its_own_loss(kind: losses.Adversarial) -> None:
    """A step down the critic's loss parts real from fake; a step down the generator's raises the fake."""
    real = torch.zeros(4, requires_grad=True)
    fake = torch.zeros(4, requires_grad=True)
    losses.critic_loss(real, fake, kind).backward()
    assert real.grad is not None and fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad >= 0).all()
    generated = torch.zeros(4, requires_grad=True)
    losses.fooling_loss(generated, kind).backward()
    assert generated.grad is not None and (generated.grad < 0).all()


def test_grid_loss_sees_a_stamp_and_not_a_texture() -> None:
    random = torch.Generator().manual_seed(0)
    stamp = torch.rand(1, 3, 8, 8, generator=random).repeat(1, 1, 12, 12)
    texture = torch.rand(1, 3, 96, 96, generator=random)
    assert losses.grid_loss(stamp).item() > 0.8
    assert losses.grid_loss(texture).item() < 0.1  # 1/16 is what 4x4 windows leave of noise


def dark_square(side: int) -> torch.Tensor:
    """A photo (1, 3, side, side): a dark square on a light ground that gets lighter to the right."""
    photo = torch.linspace(0.6, 0.9, side).expand(1, 3, side, side).clone()
    photo[:, :, side // 3 : -side // 3, side // 3 : -side // 3] = 0.1
    return photo


def test_halo_loss_sees_light_around_what_is_dark_and_no_other_contrast() -> None:
    photo = dark_square(192)
    inner = photo[:, :, 32:-32, 32:-32]
    without = torch.cat([0.5 * inner[:, :1] + 0.3, 1.4 * inner[:, 1:2] - 0.2, 1 - inner[:, 2:]], 1)  # any colours
    assert losses.halo_loss(without, photo, 32).item() < 1e-6
    ring = F.max_pool2d(1 - inner, 17, 1, 8) - (1 - inner)  # 8 pixels of the ground around the square
    haloed = without + 0.3 * ring * torch.tensor([1.0, 1.0, -1.0])[:, None, None]
    assert losses.halo_loss(haloed, photo, 32).item() > 1e-3


def test_halo_loss_of_a_plain_photo_and_of_pictures_by_themselves() -> None:
    """No division by nothing, and a batch is the mean of its pictures."""
    plain, square = torch.full((1, 3, 192, 192), 0.5), dark_square(192)
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    apart = [losses.halo_loss(pictures[i : i + 1], photo, 32) for i, photo in enumerate((plain, square))]
    assert apart[0].item() < 1e-6
    both = losses.halo_loss(pictures, torch.cat([plain, square]), 32)
    assert both.item() == pytest.approx(sum(apart).item() / 2, rel=1e-4)  # type: ignore[union-attr]


def test_calm_loss_is_the_detail_painted_where_the_photo_has_none() -> None:
    photo = torch.full((1, 3, 128, 128), 0.5)
    photo[..., 64:] = torch.rand(1, 1, 128, 64, generator=torch.Generator().manual_seed(0))
    stripes = 0.5 + 0.1 * (-1.0) ** torch.arange(96)[:, None].expand(1, 3, 96, 96)
    left, right = stripes.clone(), stripes.clone()
    left[..., 32:], right[..., :64] = 0.5, 0.5  # each away from the middle, where windows see both halves
    # A third of the picture; windows of nine rows have one stripe of their own kind more than of the other.
    assert losses.calm_loss(left, photo, 16).item() == pytest.approx((0.1 * 8 / 9) ** 2 / 3, rel=0.03)
    assert losses.calm_loss(right, photo, 16).item() < 0.01 * losses.calm_loss(left, photo, 16).item()
    ramp = torch.linspace(0, 0.1, 96).expand(1, 3, 96, 96)  # shades are free: strokes wider than a window
    assert losses.calm_loss(ramp, photo, 16).item() < 1e-5


def test_form_loss_is_one_less_the_local_correlation_whatever_the_contrast() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 1, 136, 136, generator=random)
    forms = torch.nn.functional.avg_pool2d(noise, 9, 1).expand(1, 3, 128, 128) - 0.5
    photo, inner = 0.5 + 4 * forms, 0.5 + 4 * forms[..., 16:-16, 16:-16]
    same = losses.form_loss(inner, photo, 16).item()
    assert 0 <= same < 0.02
    # The palette is free: less contrast, darker, bluer.
    recoloured = (0.5 * inner + 0.2) * torch.tensor([0.6, 1.0, 1.4])[:, None, None]
    assert losses.form_loss(recoloured, photo, 16).item() == pytest.approx(same, abs=0.02)
    nothing, negative = (losses.form_loss(x, photo, 16).item() for x in (inner * 0 + 0.5, 1 - inner))
    assert 0.85 < nothing < 1 and negative == pytest.approx(2 * nothing - same, rel=1e-3)
    # Strokes across them cost; with a third of the contrast, as in the shade, still; of an even photo nothing.
    across = inner + 0.5 * (torch.arange(96)[:, None] % 16 < 8)
    cost, in_shade, of_nothing = (losses.form_loss(across, 0.5 + c * forms, 16).item() for c in (4, 1.3, 0))
    assert 0.3 < cost < 1 and 0.5 * cost < in_shade < cost and of_nothing == 0


def test_equivariance_loss_is_zero_for_what_moves_with_the_photo() -> None:
    picture = torch.rand(1, 3, 32, 32)
    moved = torch.zeros_like(picture)
    moved[:, :, 2:, 3:] = picture[:, :, :-2, :-3]
    assert losses.equivariance_loss(moved, picture, (2, 3)).item() == 0
    assert losses.equivariance_loss(picture, picture, (2, 3)).item() > 0.05


@pytest.mark.parametrize("name", ["content", "style", "tv", "grid", "halo", "calm", "form", "equivariance"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    shape = {"grid": (1, 2, 40, 40)} | dict.fromkeys(("halo", "calm", "form"), (1, 3, 64, 64))
    shape = shape.get(name, (1, 2, 6, 6))
    # gram, content, halo, calm and form compute in float32, so the check is against central differences, not gradcheck.
    picture = torch.rand(shape, generator=random, dtype=torch.float64, requires_grad=True)
    other = torch.rand(shape, generator=random, dtype=torch.float64)
    functions = {
        "content": lambda x: losses.content_loss(x, other),
        "style": lambda x: losses.style_loss(x, losses.gram(other)),
        "tv": losses.total_variation,
        "grid": losses.grid_loss,
        "halo": lambda x: losses.halo_loss(x, dark_square(96), 16),
        "calm": lambda x: losses.calm_loss(x, dark_square(96), 16),
        "form": lambda x: losses.form_loss(x, dark_square(96), 16),
        "equivariance": lambda x: losses.equivariance_loss(x, other, (1, 1)),
    }
    function = functions[name]
    function(picture).backward()
    direction = torch.randn(shape, generator=random, dtype=torch.float64)
    step = 1e-2 if name in ("content", "style", "halo", "calm", "form") else 1e-5
    with torch.no_grad():
        numeric = (function(picture + step * direction) - function(picture - step * direction)) / (2 * step)
    assert picture.grad is not None
    analytic = (picture.grad * direction).sum()
    assert analytic.item() == pytest.approx(float(numeric), rel=2e-2)
