"""Colours of the photo, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from styletrainer.optimize import color

YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def random_picture(height: int, width: int, seed: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def colors_of(picture: torch.Tensor) -> np.ndarray:
    return picture[0].double().flatten(1).numpy()


def test_luma_and_chroma_are_those_of_yiq() -> None:
    photo, brightness = random_picture(5, 7, 0), random_picture(5, 7, 1)[:, :1]
    np.testing.assert_allclose(color.luma(photo)[0].flatten(), YIQ[0] @ colors_of(photo), rtol=1e-12)
    mixed, before = YIQ @ colors_of(color.with_luma(photo, brightness)), YIQ @ colors_of(photo)
    np.testing.assert_allclose(mixed[0], brightness.flatten(), atol=1e-6)
    np.testing.assert_allclose(mixed[1:], before[1:], atol=1e-5)


def test_matched_luma_has_the_photos_mean_and_contrast() -> None:
    photo, artwork = random_picture(8, 9, 0) * 0.3, random_picture(6, 4, 1)
    matched, wanted = color.matched_luma(artwork, photo).numpy(), YIQ[0] @ colors_of(photo)
    assert matched.mean() == pytest.approx(wanted.mean(), rel=1e-9)
    assert matched.std() == pytest.approx(wanted.std(), rel=1e-3)


def test_matched_color_has_the_photos_mean_and_covariance() -> None:
    photo, artwork = random_picture(40, 30, 0), random_picture(20, 35, 1)
    photo[:, 0] = 0.5 * photo[:, 1] + 0.2 * photo[:, 0]
    found, wanted = colors_of(color.matched_color(artwork, photo)), colors_of(photo)
    np.testing.assert_allclose(found.mean(1), wanted.mean(1), atol=1e-12)
    np.testing.assert_allclose(np.cov(found, ddof=0), np.cov(wanted, ddof=0), atol=5e-5)
    torch.testing.assert_close(color.matched_color(photo, photo), photo)


def test_matched_color_of_a_grey_artwork_is_finite_and_grey_stays_in_place() -> None:
    grey = random_picture(9, 9, 0)[:, :1].expand(1, 3, 9, 9)
    found = color.matched_color(grey, random_picture(9, 9, 1))
    assert found.isfinite().all() and found.abs().max() < 10
