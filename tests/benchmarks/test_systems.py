"""The table of all recipes: its distances against values known by other ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optimum import Judge
from scipy.linalg import sqrtm
from systems import Frechet, Looks
from textures import texture


def test_distance_of_gaussians_that_are_written_down() -> None:
    """Independent axes: |m1 - m2|^2 + sum (s1 - s2)^2."""
    one = Frechet(np.array([0.0, 1.0]), np.diag([4.0, 1.0]))
    other = Frechet(np.array([3.0, 1.0]), np.diag([1.0, 9.0]))
    assert one.distance(other) == pytest.approx(9 + (2 - 1) ** 2 + (1 - 3) ** 2)
    assert one.distance(one) == pytest.approx(0, abs=1e-9)


def test_distance_equals_the_one_with_a_matrix_root() -> None:
    random = np.random.default_rng(0)
    left, right = random.normal(size=(40, 6)), random.normal(1.0, 2.0, size=(50, 6)) @ random.normal(size=(6, 6))
    one, other = Frechet.of(left), Frechet.of(right)
    root = sqrtm(one.covariance @ other.covariance).real
    wanted = np.square(left.mean(0) - right.mean(0)).sum() + np.trace(one.covariance + other.covariance - 2 * root)
    assert one.distance(other) == pytest.approx(wanted, rel=1e-6)
    assert other.distance(one) == pytest.approx(wanted, rel=1e-6)


def test_fewer_descriptors_than_channels() -> None:
    """Covariances without full rank: no root of a negative number, nothing below zero."""
    random = np.random.default_rng(1)
    one, other = (Frechet.of(random.normal(size=(5, 32))) for _ in range(2))
    assert one.distance(one) == pytest.approx(0, abs=1e-5)
    assert one.distance(other) > 1


def test_photos_themselves_and_the_artwork_itself(thin_vgg: Path) -> None:
    photos, artwork = [texture(128, 160, seed) for seed in (1, 2)], 255 - texture(160, 160, 3) // 2
    looks = Looks(Judge([thin_vgg]), photos, artwork)
    same = looks.figures(photos)
    assert same["content"] == 0 and same["distance_to_photo"] == 0
    assert same["tv"] == pytest.approx(1) and same["distance_to_artwork"] == pytest.approx(1)
    assert same["artfid"] == pytest.approx(2)
    painted = looks.figures([artwork[:128], artwork[-128:]])
    assert painted["distance_to_artwork"] < 0.5 and painted["distance_to_photo"] > 0.01
    assert painted["style"] < same["style"] / 2
