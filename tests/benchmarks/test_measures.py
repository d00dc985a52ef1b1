"""Pictures and clips whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from measures import border, edge_ssim, grid, halo, motions, noisy, rms, warping_error
from textures import texture

Clip = list[np.ndarray]


def doubled(frame: np.ndarray) -> np.ndarray:
    """Twice the contrast, about 128."""
    return np.clip(2 * (frame.astype(np.int16) - 128) + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_grid_finds_a_stamp_in_every_cell(period: int) -> None:
    cell = np.random.default_rng(1).integers(0, 256, (period, period, 1), dtype=np.uint8)
    assert grid(np.tile(cell, (128 // period, 192 // period, 3))) > 0.9


def test_grid_of_noise_is_what_chance_leaves() -> None:
    """The mean of n cells has a deviation of 1 / sqrt(n): 384 cells of 8x8 pixels here."""
    noise = np.random.default_rng(1).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    assert grid(noise) == pytest.approx(384**-0.5, rel=0.3)


def test_border_of_a_framed_picture() -> None:
    picture = texture(96, 128)
    framed = doubled(picture)
    framed[16:-16, 16:-16] = picture[16:-16, 16:-16]
    assert border(framed) / border(picture) == pytest.approx(2, rel=0.1)


def test_halo_is_light_around_what_is_dark() -> None:
    """A dark disc on a light ground, repainted; then with a ring of 40 more around the disc."""
    y, x = np.mgrid[:160, :200]
    far = np.hypot(y - 80, x - 100)
    photo = np.where(far[..., None] < 30, 30, 180).repeat(3, 2).astype(np.uint8)
    repainted = 250 - photo // 2
    assert halo(photo, photo) < 1
    assert halo(photo, repainted) < 1
    ringed = repainted - 40 * ((far > 30) & (far < 40))[..., None].astype(np.uint8)
    assert halo(photo, ringed) > 3
    assert halo(photo, np.full_like(photo, 90)) == pytest.approx(0, abs=1e-6)


def test_edges_of_the_same_and_of_another_picture() -> None:
    picture = texture(96, 128)
    assert edge_ssim(picture, picture) == pytest.approx(1)
    assert edge_ssim(picture, picture + np.uint8(40)) == pytest.approx(1)  # lighter, the same lines
    assert edge_ssim(picture, texture(96, 128, seed=5)) < edge_ssim(picture, noisy(picture, 0)) < 1


def test_motion_of_a_moving_camera_is_found(moving: Clip) -> None:
    (motion, *_) = found = motions(moving, 1)
    assert len(found) == 11
    _, x = np.mgrid[:96, :128]
    moved = (motion.where[..., 0] - x)[motion.followed]
    assert np.median(moved) == pytest.approx(2, abs=0.1)
    assert not motion.followed[:, -2:].any(), "what has just come into view was followed"


@pytest.mark.parametrize("lag", [1, 5])
def test_warping_error_is_that_of_the_style_alone(moving: Clip, lag: int) -> None:
    moved = motions(moving, lag)
    source = warping_error(moving, moved)
    assert source < 2, "a still wall before a moving camera"
    assert warping_error([doubled(frame) for frame in moving], moved) / source == pytest.approx(2, rel=0.05)
    flickering = [noisy(frame, seed, sigma=10) for seed, frame in enumerate(moving)]
    # Two independent draws, one of which is blurred between its pixels where the flow is not whole.
    assert 10 < warping_error(flickering, moved) < 10 * 2**0.5 * 1.1


def test_what_was_hidden_does_not_count() -> None:
    """A square moves 8 pixels before a wall: the wall that it uncovers was not there to be followed."""
    wall, square = texture(96, 128), texture(32, 32, seed=9)
    frames = [wall.copy(), wall.copy()]
    frames[0][32:64, 40:72] = frames[1][32:64, 48:80] = square
    (motion,) = motions(frames, 1)
    assert motion.followed[34:62, 41:47].mean() < 0.3
    assert motion.followed[:, 88:120].mean() > 0.95


def test_a_cut_is_left_out(moving: Clip) -> None:
    clip = [*moving[:3], *(texture(96, 128, seed=7) for _ in range(3))]
    assert [(motion.before, motion.after) for motion in motions(clip, 1)] == [(0, 1), (1, 2), (3, 4), (4, 5)]


def test_noise_of_a_sensor() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert rms(noisy(grey, 0), noisy(grey, 1)) == pytest.approx(2 * 2**0.5, rel=0.05)
    assert np.array_equal(noisy(grey, 0), noisy(grey, 0))
    assert rms(grey, grey + np.uint8(3)) == 3
