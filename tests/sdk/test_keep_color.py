"""The style's light in the photo's colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.frames import recolored


def ycrcb(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb))


def test_equals_the_way_over_ycrcb(frame: np.ndarray) -> None:
    styled = cv2.addWeighted(frame, 0.5, 255 - frame, 0.5, 20.0)
    swapped = ycrcb(frame)
    swapped[..., 0] = ycrcb(styled)[..., 0]
    expected = cv2.cvtColor(swapped, cv2.COLOR_YCrCb2BGR)
    assert np.abs(recolored(styled, frame).astype(int) - expected).max() <= 2  # its rounding of chroma


def test_luma_of_the_style_and_chroma_of_the_photo() -> None:
    random = np.random.default_rng(0)
    # From the middle of the range, so that nothing is cut off.
    photo, styled = (random.integers(100, 156, (90, 120, 3), np.uint8) for _ in range(2))
    before = photo.copy(), styled.copy()
    out = recolored(styled, photo)
    assert np.abs(ycrcb(out)[..., 0].astype(int) - ycrcb(styled)[..., 0]).max() <= 1
    assert np.abs(ycrcb(out)[..., 1:].astype(int) - ycrcb(photo)[..., 1:]).max() <= 1
    np.testing.assert_array_equal(photo, before[0])
    np.testing.assert_array_equal(styled, before[1])


def test_luma_formula() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    out = recolored(np.zeros_like(pixels), pixels)
    np.testing.assert_array_equal(out[0], [[255 - 29, 0, 0], [0, 255 - 150, 0], [0, 0, 255 - 76]])


@pytest.mark.parametrize("canvas", [None, (96, 96)])
def test_strength_zero_is_the_photo(frame: np.ndarray, canvas: tuple[int, int] | None) -> None:
    before = frame.copy()
    with Stylizer(backend=FakeBackend(canvas)) as stylizer:
        out = stylizer.run(frame, 0.0, keep_color=True)
        if canvas is None:
            np.testing.assert_array_equal(out, frame)
        np.testing.assert_array_equal(stylizer.run(frame, keep_color=True), recolored(stylizer.run(frame), frame))
        (streamed,) = stylizer.stream([frame], keep_color=True)
        np.testing.assert_array_equal(streamed, stylizer.run(frame, keep_color=True))
    np.testing.assert_array_equal(frame, before)


def test_grey_stays_grey_and_takes_the_style() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    with Stylizer(backend=FakeBackend()) as stylizer:
        np.testing.assert_array_equal(stylizer.run(ramp, keep_color=True), 255 - ramp)
