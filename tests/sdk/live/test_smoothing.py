"""Still parts are steadied, moving parts leave no ghost, and off means off."""

from __future__ import annotations

import numpy as np
import pytest

from stylesdk.errors import FrameError
from stylesdk.live.scene import render_frame
from stylesdk.live.smoothing import Smoother

SIZE = (120, 160)


def noisy(image: np.ndarray, count: int, sigma: float) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [np.clip(image + random.normal(0, sigma, image.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def smoothed(photos: list[np.ndarray], amount: float) -> list[np.ndarray]:
    """The clip, styled by inversion."""
    smoother = Smoother()
    return [smoother.smooth(photo, 255 - photo, amount) for photo in photos]


def noise(frames: list[np.ndarray]) -> float:
    return float(np.stack(frames).astype(np.float32).std(0).mean())


@pytest.mark.parametrize(("amount", "left"), [(0.3, 0.75), (0.5, 0.5), (1.0, 0.25)])
@pytest.mark.parametrize("sigma", [2, 6])
def test_noise_of_a_still_scene_falls_by_the_amount(amount: float, left: float, sigma: float) -> None:
    photos = noisy(render_frame(0, 100, SIZE), 40, sigma)
    before = [photo.copy() for photo in photos]
    out = smoothed(photos, amount)
    # The first frames have little past to lean on.
    assert noise(out[20:]) <= left * noise([255 - photo for photo in photos[20:]])
    assert abs(np.mean(out[-1]) - np.mean(255 - photos[-1])) < 1
    assert all((a == b).all() for a, b in zip(photos, before, strict=True))


@pytest.mark.parametrize("speed", [1, 4, 15])
def test_moving_square_leaves_no_ghost(speed: int) -> None:
    background = np.full((*SIZE, 3), 60, np.uint8)
    photos = noisy(background, 30, 2)
    for index, photo in enumerate(photos):
        left = 2 + index * speed % 120
        photo[40:70, left : left + 30] = (200, 120, 90)
    out = smoothed(photos, 1.0)
    for photo, styled in zip(photos, out, strict=True):
        difference = np.abs(styled.astype(int) - (255 - photo))
        # Everywhere, so on the square, before it and behind it; noise itself is up to some 8 levels off.
        assert difference.max() <= 12
        square = (photo == (200, 120, 90)).all(-1)
        assert difference[square].mean() <= 2


def test_slow_movement_leaves_no_ghost() -> None:
    """Each step is less than noise would be; the sum of the steps is not."""
    photos = [np.full((*SIZE, 3), 60 + index, np.uint8) for index in range(60)]
    out = smoothed(photos, 1.0)
    assert np.abs(out[-1].astype(int) - (255 - photos[-1])).max() <= 6


def test_colours_of_one_luma_are_told_apart() -> None:
    red, green = (np.full((*SIZE, 3), colour, np.uint8) for colour in ((0, 0, 200), (0, 102, 0)))
    assert (smoothed([red] * 5 + [green], 1.0)[-1] == 255 - green).all()


def test_a_cut_starts_anew() -> None:
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(2))
    second[:30] = first[:30]  # a quarter that happens to be equal is new too
    smoother = Smoother()
    for photo in (first, first):
        smoother.smooth(photo, 255 - photo, 1.0)
    np.testing.assert_array_equal(smoother.smooth(second, second, 1.0), second)


def test_a_control_that_moves_leaves_less_of_the_past() -> None:
    photos = noisy(render_frame(0, 100, SIZE), 30, 6)
    left = []
    for control in (0.0, 0.02, 0.05, 0.09):
        smoother = Smoother()
        left.append(noise([smoother.smooth(photo, 255 - photo, 0.6, control) for photo in photos][10:]))
    assert left == sorted(left) and left[0] < 0.6 * left[-1]
    for control in (0.1, 1.0, float("inf")):
        assert smoother.smooth(photos[0], photos[0], 0.6, control) is photos[0]
        smoother.smooth(photos[1], photos[1], 0.6)


def test_another_size_and_reset_start_anew() -> None:
    photos = noisy(render_frame(0, 100, SIZE), 6, 6)
    smoother = Smoother()
    for photo in photos[:4]:
        smoother.smooth(photo, photo, 1.0)
    small = np.ascontiguousarray(photos[4][:50, :61])
    np.testing.assert_array_equal(smoother.smooth(small, small, 1.0), small)
    smoother.smooth(photos[4], photos[4], 1.0)
    smoother.reset()
    np.testing.assert_array_equal(smoother.smooth(photos[5], photos[5], 1.0), photos[5])


def test_off_is_the_styled_frame_itself_and_forgets() -> None:
    photos = noisy(render_frame(0, 100, SIZE), 4, 6)
    smoother = Smoother()
    assert smoother.smooth(photos[0], photos[0], 0.0) is photos[0]
    smoother.smooth(photos[1], photos[1], 1.0)
    assert smoother.smooth(photos[2], photos[2], 0.0) is photos[2]
    np.testing.assert_array_equal(smoother.smooth(photos[3], photos[3], 1.0), photos[3])


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 33)])
def test_any_size(size: tuple[int, int]) -> None:
    photos = noisy(np.full((*size, 3), 128.0), 3, 1)
    assert [out.shape for out in smoothed(photos, 0.5)] == [(*size, 3)] * 3


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_amount_outside_the_range(amount: float) -> None:
    with pytest.raises(FrameError, match="smoothing"):
        smoothed(noisy(render_frame(0, 100, SIZE), 1, 1), amount)
