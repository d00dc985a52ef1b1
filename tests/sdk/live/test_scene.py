"""The demo clip: the same everywhere, rich, moving, and quick enough to be rendered while it is styled."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clips import read_clip

from stylesdk.live import open_source
from stylesdk.live.scene import render_frame, write_scene


def test_same_index_same_picture() -> None:
    first = render_frame(7, 100)
    render_frame(50, 100)
    assert (render_frame(7, 100) == first).all()
    assert (first.shape, first.dtype) == ((360, 640, 3), np.uint8)


def test_picture_has_tones_colours_and_detail() -> None:
    image = render_frame(30, 100).astype(np.float32)
    grey = image.mean(2)
    assert np.percentile(grey, 2) < 60
    assert np.percentile(grey, 98) > 200
    assert np.abs(image.max(2) - image.min(2)).mean() > 30
    # No flat cartoon areas: nearly every 16 x 16 tile outside the open sky varies.
    tiles = grey[208:352].reshape(9, 16, 40, 16).std((1, 3))
    assert (tiles > 2).mean() > 0.95


def test_motion_is_there_and_smooth() -> None:
    frames = [render_frame(i, 100).astype(np.int16) for i in range(20, 26)]
    steps = [float(np.abs(b - a).mean()) for a, b in pairwise(frames)]
    assert min(steps) > 0.3
    assert max(steps) < 6
    assert max(steps) < 2 * min(steps)


def test_walker_crosses_the_picture() -> None:
    def red(index: int) -> float:
        image = render_frame(index, 100)[200:330].astype(np.int16)
        coat = (image[..., 2] > 140) & (image[..., 2] - np.maximum(image[..., 0], image[..., 1]) > 70)
        return float(np.nonzero(coat)[1].mean())

    positions = [red(i) for i in (5, 30, 60, 95)]
    assert positions == sorted(positions)
    assert positions[-1] - positions[0] > 250


@pytest.mark.parametrize("size", [(72, 128), (90, 91), (480, 640)])
@pytest.mark.parametrize("index", [0, 99])
def test_any_size(size: tuple[int, int], index: int) -> None:
    image = render_frame(index, 100, size)
    assert image.shape == (*size, 3)
    assert image.std() > 20


def test_demo_source() -> None:
    source = open_source("demo")
    assert (source.live, source.fps, source.frames, source.kind, source.name) == (
        False,
        25,
        100,
        "video",
        "demo",
    )
    frames = iter(source)
    assert (next(frames).image == render_frame(0, 100)).all()
    assert next(frames).pts == 1


def test_write_scene(tmp_path: Path) -> None:
    write_scene(tmp_path / "demo.mp4", seconds=0.4, fps=25)
    clip = read_clip(tmp_path / "demo.mp4")
    assert (len(clip.times), clip.size, clip.duration) == (10, (360, 640), pytest.approx(0.4))


def test_live_needs_no_video_package() -> None:
    script = """
import sys
sys.modules["av"] = None
import stylesdk.live
assert next(iter(stylesdk.live.open_source("demo"))).image.shape == (360, 640, 3)
try:
    stylesdk.live.open_sink("a.mp4", stylesdk.live.open_source("demo"))
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "pip install 'stylesdk[live]'" in result.stdout
