"""The parts of the demo scene that are painted once: noise, sky, hills, forest, house, meadow, trees.

Colours are BGR 0-255, positions are fractions of the picture, so that the scene has any size. A layer is
float32 (H, W, 4): BGR already multiplied by the alpha 0-1 that stands beside it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Layer = NDArray[np.float32]
Field = NDArray[np.float32]

WATERLINE = 0.585
SUN = (0.735, 0.335)  # x, y
HAZE = np.array((178, 196, 232), np.float32)
_FINE = 3  # supersampling of everything drawn with lines and polygons


def noise(size: tuple[int, int], cells: tuple[float, float], octaves: int, seed: int) -> Field:
    """Fractal noise in 0-1, (H, W); ``cells`` are lattice cells down and across in the coarsest octave."""
    rng = np.random.default_rng(seed)
    total, weight = np.zeros(size, np.float32), 1.0
    for octave in range(octaves):
        rows, columns = (int(c * 2**octave) + 3 for c in cells)
        grid = rng.random((min(rows, size[0] + 3), min(columns, size[1] + 3)), np.float32)
        total += weight * as_field(cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC))
        weight *= 0.5
    low, high = np.percentile(total, (0.5, 99.5))
    return as_field(np.clip((total - low) / (high - low), 0, 1))


def as_field(array: object) -> Field:
    """``array`` as float32."""
    return np.asarray(array, dtype=np.float32)


def smooth(low: float, high: float, value: Field) -> Field:
    """0 below ``low``, 1 above ``high``, a smooth step between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return as_field(t * t * (3 - 2 * t))


def grid(size: tuple[int, int]) -> tuple[Field, Field]:
    """Row and column of every pixel as fractions 0-1: (H, 1) and (1, W)."""
    return as_field((np.arange(size[0]) + 0.5)[:, None] / size[0]), as_field((np.arange(size[1]) + 0.5)[None] / size[1])


def ramp(value: Field, stops: list[tuple[float, tuple[float, float, float]]]) -> Field:
    """Colours (..., 3) by linear interpolation between ``stops`` (position, BGR)."""
    positions = [p for p, _ in stops]
    return np.stack([np.interp(value, positions, [c[i] for _, c in stops]) for i in range(3)], -1).astype(np.float32)


def layer(color: Field, alpha: Field) -> Layer:
    """Colour (H, W, 3) under alpha (H, W) as a premultiplied layer."""
    alpha = alpha[..., None]
    return as_field(np.concatenate((color * alpha, np.broadcast_to(alpha, (*color.shape[:2], 1))), -1))


def over(below: Field, above: Layer) -> Field:
    """``above`` laid over ``below``, (H, W, 3) or (H, W, 4)."""
    return as_field(below * (1 - above[..., 3:]) + above[..., : below.shape[2]])


def sky(size: tuple[int, int]) -> Field:
    """Evening sky with the sun and its glow: (H, W, 3)."""
    y, x = grid(size)
    stops = [
        (0.0, (158, 104, 62)),
        (0.22, (196, 150, 104)),
        (0.42, (196, 196, 190)),
        (WATERLINE, (150, 200, 246)),
    ]
    color = np.broadcast_to(ramp(as_field(y), [(p, c) for p, c in stops]), (*size, 3))
    distance = as_field(np.hypot((x - SUN[0]) * size[1] / size[0], y - SUN[1]))
    for reach, strength, glow in ((0.22, 0.62, (90, 170, 235)), (0.07, 0.7, (190, 232, 255))):
        near = as_field(strength * np.exp(-distance / reach))[..., None]
        color = as_field(color + near * (255 - color) * as_field(glow) / 255)
    disc = (1 - smooth(0.034, 0.041, distance))[..., None]
    return as_field(color * (1 - disc) + disc * np.array((226, 250, 255), np.float32))


def clouds(size: tuple[int, int]) -> Layer:
    """Soft clouds, twice as wide as the picture so that they can drift; flatter towards the horizon."""
    height, width = size[0], 2 * size[1]
    y, _ = grid((height, width))
    flat = noise((height, width), (7, 11), 7, 8)
    # Rows are read ever faster towards the horizon, as a ceiling of clouds is seen.
    rows = np.interp(y[:, 0], (0, WATERLINE, 1), (0.0, 1.0, 1.0)) ** 1.35 * (height - 1)
    shape = as_field(cv2.remap(flat, *_maps(rows, width), cv2.INTER_LINEAR))
    density = smooth(0.46, 0.74, shape)
    step = max(height // 45, 2)
    light = np.clip(0.62 + 2.2 * (shape - np.roll(shape, (-step, -step), (0, 1))), 0, 1)
    color = ramp(as_field(light), [(0, (164, 138, 136)), (0.5, (206, 204, 216)), (1, (228, 244, 255))])
    return layer(color, as_field(0.93 * density * (1 - smooth(0.42, 0.57, y))))


def _maps(rows: NDArray[np.float64], width: int) -> tuple[Field, Field]:
    columns = np.arange(width, dtype=np.float32)[None]
    shape = (len(rows), width)
    return as_field(np.broadcast_to(columns, shape)).copy(), as_field(np.broadcast_to(rows[:, None], shape)).copy()


def ridge(width: int, top: float, swing: float, cells: float, seed: int) -> Field:
    """Height of a hill line over the width, as a fraction of the picture: (W,)."""
    return as_field(top - swing * (noise((1, width), (1, cells), 6, seed)[0] - 0.5) * 2)


def hill(
    size: tuple[int, int],
    line: Field,
    dark: tuple[float, ...],
    lit: tuple[float, ...],
    haze: float,
    seed: int,
) -> Layer:
    """Land below ``line``: slopes lit from the sun's side, growth as fine noise, all sunk in haze."""
    y, _ = grid(size)
    depth = y - line[None]
    folds = noise(size, (5, 9), 6, seed) + 0.5 * noise((1, size[1]), (1, 16), 5, seed + 1)
    slope = cv2.GaussianBlur(folds, (0, 0), size[0] / 240)
    slope = as_field(slope - np.roll(slope, -max(size[1] // 160, 1), 1)) * 7
    grain = noise(size, (60, 90), 3, seed + 2) - 0.5
    light = np.clip(0.42 + slope + 0.38 * grain - 0.5 * depth, 0, 1)[..., None]
    color = as_field(dark) * (1 - light) + as_field(lit) * light
    mist = np.clip(haze + 0.9 * haze * smooth(0.0, 0.2, as_field(depth)), 0, 0.96)[..., None]
    return layer(as_field(color * (1 - mist) + HAZE * mist), as_field(np.clip(depth * size[0] + 0.5, 0, 1)))


class Canvas:
    """A transparent layer to draw on with lines and polygons in fractions of the picture, supersampled."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._paint = np.zeros((size[0] * _FINE, size[1] * _FINE, 4), np.uint8)

    def _at(self, points: object) -> NDArray[np.int32]:
        scaled = np.asarray(points, np.float64) * (self.size[1], self.size[0]) * _FINE * 16
        return np.rint(scaled).astype(np.int32)

    def polygon(self, points: object, color: tuple[float, ...]) -> None:
        """Fill; ``points`` are (x, y)."""
        cv2.fillPoly(self._paint, [self._at(points)], (*color, 255), cv2.LINE_8, 4)

    def line(self, points: object, color: tuple[float, ...], width: float) -> None:
        """A line ``width`` picture heights wide."""
        thick = max(round(width * self.size[0] * _FINE), 1)
        cv2.polylines(self._paint, [self._at(points)], False, (*color, 255), thick, cv2.LINE_8, 4)

    def dot(
        self, center: tuple[float, float], axes: tuple[float, float], angle: float, color: tuple[float, ...]
    ) -> None:
        """An ellipse; ``axes`` are picture heights, ``angle`` degrees."""
        x, y = self._at(center)
        a, b = (max(round(v * self.size[0] * _FINE * 16), 8) for v in axes)
        cv2.ellipse(self._paint, (int(x), int(y)), (a, b), angle, 0, 360, (*color, 255), -1, cv2.LINE_8, 4)

    def layer(self, haze: float = 0.0) -> Layer:
        """What was drawn, ``haze`` deep in the distance."""
        small = as_field(cv2.resize(as_field(self._paint), self.size[::-1], interpolation=cv2.INTER_AREA))
        alpha = small[..., 3:] / 255
        return as_field(np.concatenate((small[..., :3] * (1 - haze) + HAZE * haze * alpha, alpha), -1))


def forest(size: tuple[int, int], line: Field, count: int, height: float, haze: float, seed: int) -> Layer:
    """Conifers standing on and below ``line``, the far ones first."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(size)
    spread = rng.random(count) ** 1.4
    for below in np.sort(spread) * 0.075:
        x = rng.random()
        foot = float(line[min(int(x * size[1]), size[1] - 1)]) + below
        if foot > WATERLINE + 0.004:
            continue
        tall = height * (0.55 + 0.6 * rng.random()) * (1 + 5 * below)
        shade = rng.uniform(-10, 14)
        for side, color in ((-1, (44, 56, 34)), (1, (62, 96, 84))):
            tint = tuple(max(c + shade, 0) for c in color)
            outline = [(x, foot - tall), (x, foot)]
            for tier in range(4, 0, -1):
                edge = foot - tall * (1 - tier / 4.3)
                reach = side * tall * 0.17 * (tier / 4) * size[0] / size[1] * rng.uniform(0.8, 1.25)
                outline += [(x + reach, edge), (x + reach * 0.45, edge - tall * 0.09)]
            canvas.polygon(outline, tint)
    return canvas.layer(haze)
