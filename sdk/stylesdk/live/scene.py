"""Our own demo clip: a lake in the evening, rendered, so that it is free, small and the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from fractions import Fraction
from functools import lru_cache
from math import pi
from pathlib import Path

import cv2
import numpy as np

from stylesdk.frames import Frame
from stylesdk.live.figures import bank, house, meadow, tree
from stylesdk.live.scenery import (
    SUN,
    WATERLINE,
    Field,
    Layer,
    as_field,
    clouds,
    forest,
    grid,
    hill,
    noise,
    over,
    ridge,
    sky,
    smooth,
)
from stylesdk.live.sources import Kind, SourceFrame
from stylesdk.live.walker import walker

FPS = 25
FRAMES = 100
_AUTUMN = [(22, 40, 44), (30, 74, 108), (38, 112, 176), (84, 176, 232)]
_GREEN = [(24, 40, 26), (36, 76, 54), (52, 124, 108), (104, 192, 196)]


def render_frame(index: int, total: int, size: tuple[int, int] = (360, 640)) -> Frame:
    """Frame ``index`` of ``total``: BGR uint8 (H, W, 3). The same arguments give the same picture.

    Args:
        index: 0 to ``total`` - 1; clouds, water and walker move with ``index`` / ``total``.
        total: frames of the whole clip.
        size: height and width in pixels, at least 72 x 128.
    """
    return _scene(size).draw(index / max(total, 1))


@lru_cache(maxsize=2)
def _scene(size: tuple[int, int]) -> _Scene:
    return _Scene(size)


class _Cover:
    """A layer laid out for speed: colour, and what it lets through, as (H, W, 3) each."""

    def __init__(self, source: Layer) -> None:
        self.color = np.ascontiguousarray(source[..., :3])
        self.keep = np.ascontiguousarray(np.repeat(1 - source[..., 3:], 3, 2))

    def over(self, below: Field) -> Field:
        return as_field(cv2.add(cv2.multiply(below, self.keep), self.color))

    def moved(self, shift: Field, width: int) -> _Cover:
        out, box = copy(self), (width, self.color.shape[0])
        out.color = as_field(cv2.warpAffine(self.color, shift, box, flags=cv2.INTER_LINEAR))
        out.keep = as_field(cv2.warpAffine(self.keep, shift, box, flags=cv2.INTER_LINEAR))
        return out


class _Scene:
    """All that does not move, painted once, and how the rest moves over it."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.shore = round(WATERLINE * size[0])
        self.sky = sky(size)[: self.shore]
        self.clouds = _Cover(clouds(size)[: self.shore])
        self.land = _Cover(_land(size)[: self.shore])
        self.near = _Cover(_near(size))
        y, x = grid(size)
        # Rows below the shore as seen by someone standing at the lake: near ripples are long, far ones fine.
        self.depth = as_field((y[self.shore :] - WATERLINE) / (1 - WATERLINE))
        self.waves = as_field(9 / (self.depth + 0.11))
        self.wobble = noise((size[0] - self.shore, size[1]), (26, 5), 4, 41)
        self.path = as_field(np.exp(-(((x - SUN[0]) / (0.02 + 0.1 * self.depth)) ** 2)))

    def draw(self, time: float) -> Frame:
        """The picture at ``time`` 0-1 of the clip."""
        drift = np.array([[1, 0, -self.size[1] * (0.3 - 0.11 * time)], [0, 1, 0]], np.float32)
        above = self.land.over(self.clouds.moved(drift, self.size[1]).over(self.sky))
        picture = as_field(np.concatenate((above, self._water(above, time))))
        picture = self.near.over(picture)
        self._walk(picture, time)
        return np.asarray(np.clip(picture + 0.5, 0, 255), dtype=np.uint8)

    def _water(self, above: Field, time: float) -> Field:
        rows, width = self.size[0] - self.shore, self.size[1]
        phase = self.waves + 7 * self.wobble
        swell = np.sin(phase + 14 * pi * time) + 0.6 * np.sin(1.7 * phase - 10 * pi * time + 2)
        y = np.arange(rows, dtype=np.float32)[:, None]
        x = np.arange(width, dtype=np.float32)[None]
        reach = self.size[0] / 360 * (0.6 + 7 * self.depth)
        source_x = as_field(np.clip(x + reach * 0.7 * swell, 0, width - 1))
        source_y = as_field(np.clip(self.shore - 1 - y * 1.12 + reach * 1.4 * swell, 0, self.shore - 1))
        mirror = as_field(cv2.remap(above, source_x, source_y, cv2.INTER_LINEAR))
        deep = np.array((112, 88, 52), np.float32)
        clear = (0.86 - 0.3 * self.depth)[..., None]
        glint = as_field(self.path * smooth(0.55, 1.5, as_field(swell)))[..., None]
        dark = 1 - 0.07 * np.clip(-swell, 0, 1)[..., None]
        color = (mirror * clear + deep * (1 - clear)) * dark
        return as_field(color + glint * (np.array((188, 226, 252), np.float32) - color) * 0.8)

    def _walk(self, picture: Field, time: float) -> None:
        height, width = self.size
        tall = round(0.33 * height)
        distance = 0.60 * time * width / tall  # in body heights
        x = (0.2 + 0.60 * time) * width
        foot = (float(bank(x / width)) + 0.098) * height
        person = walker(tall, 2 * pi * distance / 0.86)
        _shade(picture, x, foot, tall)
        left, top = x - 0.35 * tall, foot - tall
        frac = np.array([[1, 0, left - int(left)], [0, 1, top - int(top)]], np.float32)
        box = (person.shape[1] + 1, person.shape[0] + 1)
        person = as_field(cv2.warpAffine(person, frac, box, flags=cv2.INTER_LINEAR))
        area = picture[int(top) : int(top) + box[1], int(left) : int(left) + box[0]]
        area[:] = over(area, person[: area.shape[0], : area.shape[1]])


def _shade(picture: Field, x: float, foot: float, tall: int) -> None:
    # The shadow falls towards us and to the left: the sun stands behind, to the right.
    top, left = int(foot - 0.06 * tall), max(int(x - 0.75 * tall), 0)
    area = picture[top : int(foot + 0.12 * tall), left : int(x + 0.3 * tall)]
    y = (np.arange(area.shape[0], dtype=np.float32)[:, None] + top - foot) / tall
    across = (np.arange(area.shape[1], dtype=np.float32)[None] + left - x) / tall
    spot = np.exp(-(((across + 0.2) / 0.26) ** 2) - ((y - 0.02 + 0.06 * across) / 0.03) ** 2)
    area *= 1 - 0.55 * spot[..., None]


def _land(size: tuple[int, int]) -> Layer:
    """Three ranges of hills, forest, the far shore and the house."""
    width = size[1]
    far = ridge(width, 0.40, 0.115, 5, 31)
    middle = ridge(width, 0.475, 0.06, 4, 32)
    close = ridge(width, 0.54, 0.035, 3, 36)
    shore = ridge(width, WATERLINE - 0.016, 0.006, 9, 34)
    land = hill(size, far, (140, 104, 92), (196, 184, 206), 0.36, 50)
    land = over(land, hill(size, middle, (84, 78, 52), (116, 158, 160), 0.2, 53))
    land = over(land, forest(size, middle, 260, 0.034, 0.3, 61))
    land = over(land, hill(size, close, (44, 66, 40), (78, 148, 146), 0.1, 56))
    land = over(land, forest(size, close, 240, 0.06, 0.1, 62))
    land = over(land, hill(size, shore, (40, 76, 62), (84, 160, 168), 0.0, 59))
    return over(land, house(size))


def _near(size: tuple[int, int]) -> Layer:
    """The near shore with its trees."""
    near = tree(size, (0.93, 0.87), 0.62, _GREEN, 72)
    near = over(near, meadow(size))
    return over(near, tree(size, (0.085, 0.94), 0.8, _AUTUMN, 71))


class SceneSource:
    """The demo clip as a source: 100 frames at 25 per second."""

    name = "demo"
    description = "the rendered demo clip"
    kind: Kind = "video"
    paths: Sequence[Path] = ()
    fps: Fraction | None = Fraction(FPS)
    live = False
    frames: int | None = FRAMES

    def __init__(self, frames: int = FRAMES, fps: int = FPS, size: tuple[int, int] = (360, 640)) -> None:
        self.frames, self.fps, self._size = frames, Fraction(fps), size

    def __iter__(self) -> Iterator[SourceFrame]:
        assert self.frames is not None and self.fps is not None
        for index in range(self.frames):
            yield SourceFrame(render_frame(index, self.frames, self._size), "", index, 1 / self.fps, 1)

    def close(self) -> None:
        """Nothing is held open."""


def write_scene(path: Path, seconds: float = 4, fps: int = FPS) -> None:
    """Render the clip into the video file ``path``.

    Raises:
        SinkError: it cannot be written.
        MissingExtraError: without PyAV.
    """
    from stylesdk.live.video_sink import VideoSink

    sink = VideoSink(path, None, Fraction(fps))
    try:
        for frame in SceneSource(round(seconds * fps), fps):
            sink.write(frame.image, frame)
    except BaseException:
        sink.abort()
        raise
    sink.close()
