"""Colours and smoothing of the page that needs no server: loops in JavaScript, against those of the SDK."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from browser import Tab
from static_site import BYTES, as_text, from_text, furthest

from stylesdk.frames import Frame, recolored
from stylesdk.live.scene import render_frame
from stylesdk.live.smoothing import Smoother
from stylesdk.web.static import PAGE

pytestmark = pytest.mark.browser


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    opened = open_tab("about:blank")
    opened.page.add_script_tag(path=PAGE / "pixels.js")
    return opened


def test_colours_are_kept_exactly_as_in_python(tab: Tab) -> None:
    rng = np.random.default_rng(3)
    styled, photo = rng.integers(0, 256, (2, 60, 70, 3), dtype=np.uint8)
    run = f"(images) => {{ {BYTES} return text(stylesdk.pixels().recolored(...images.map(bytes))); }}"
    found = tab.page.evaluate(run, [as_text(styled), as_text(photo)])
    assert np.array_equal(from_text(found, photo), recolored(styled, photo))


def test_still_parts_are_steadied_as_in_python(tab: Tab) -> None:
    """A still scene with noise and a square that moves, under controls that move; then a cut; then another size."""
    rng = np.random.default_rng(4)
    clip: list[tuple[Frame, Frame]] = []
    for index in range(8):
        photo = render_frame(0 if index < 6 else 50, 100, (96, 128) if index < 7 else (72, 128)).astype(np.int16)
        if index == 6:
            photo = photo[:, ::-1] // 2
        photo = photo + rng.normal(0, 2, photo.shape)
        photo[20:50, 8 * index : 8 * index + 30] = (20, 200, 90)
        image = np.clip(photo, 0, 255).astype(np.uint8)
        clip.append((image, cv2.add(cv2.bitwise_not(image), rng.integers(0, 12, image.shape, dtype=np.uint8))))
    run = """const smoother = new (stylesdk.pixels().Smoother)();
      return clip.map(([photo, styled, width, height, control]) =>
        text(smoother.smooth(bytes(photo), bytes(styled), width, height, 0.6, control)));"""
    controls = (0.0, 0.0, 0.04, 0.1, 0.08, 0.0, 0.0, 0.0)
    sent = [[as_text(p), as_text(s), *p.shape[1::-1], control] for (p, s), control in zip(clip, controls, strict=True)]
    found = tab.page.evaluate(f"(clip) => {{ {BYTES} {run} }}", sent)
    smoother = Smoother()
    for index, ((photo, styled), values) in enumerate(zip(clip, found, strict=True)):
        expected = smoother.smooth(photo, styled, 0.6, controls[index])
        steady = from_text(values, styled)
        assert (furthest(steady, styled) == 0) == (
            index in (0, 3, 6, 7)
        )  # begins anew: no ghost of another scene or look
        # The map of changes is rounded to whole levels in Python only.
        assert cv2.absdiff(steady, expected).mean() < 0.3
        assert furthest(steady, expected) <= 4
