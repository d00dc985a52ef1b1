"""The things that stand in the demo scene: house, trees and meadow."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, sin

import numpy as np

from stylesdk.live.scenery import (
    SUN,
    WATERLINE,
    Canvas,
    Field,
    Layer,
    as_field,
    grid,
    layer,
    noise,
    over,
    ramp,
    smooth,
)

Color = tuple[float, float, float]
Point = tuple[float, float]


def house(size: tuple[int, int]) -> Layer:
    """A cottage on the far shore."""
    canvas, rng = Canvas(size), np.random.default_rng(11)
    left, right, foot, eaves, top = 0.36, 0.48, WATERLINE - 0.012, 0.505, 0.43
    gable, peak = left + 0.042, left + 0.021
    canvas.polygon(_box(left + 0.078, 0.405, left + 0.091, 0.47), (72, 84, 112))
    canvas.polygon([(left, foot), (left, eaves), (peak, top), (gable, eaves), (gable, foot)], (150, 172, 188))
    canvas.polygon(_box(gable, eaves, right, foot), (178, 212, 234))
    for _ in range(160):  # plaster
        x, y, tone = rng.uniform(left, gable - 0.004), rng.uniform(eaves, foot), rng.uniform(-20, 12)
        canvas.line([(x, y), (x + 0.004, y)], (150 + tone, 172 + tone, 188 + tone), 0.004)
    for x in np.arange(gable + 0.002, right, 0.0045):  # boards
        tone = rng.uniform(-16, 6)
        canvas.line([(x, eaves), (x, foot)], (168 + tone, 202 + tone, 226 + tone), 0.002)
    for row in np.linspace(0, 1, 9):  # tiles
        y = top + (eaves + 0.008 - top) * row
        for x in np.linspace(peak + 0.015 * row, right - 0.016 + 0.022 * row, 22)[:-1]:
            tone = rng.uniform(-22, 18)
            canvas.polygon(_box(x, y, x + 0.0065, y + 0.011), (62 + tone / 2, 84 + tone, 164 + tone))
    canvas.line([(left - 0.006, eaves + 0.008), (peak, top), (gable, eaves + 0.008)], (58, 70, 122), 0.008)
    for x in (left + 0.057, left + 0.098):
        canvas.polygon(_box(x, 0.522, x + 0.012, 0.549), (96, 196, 250))
        canvas.line([(x + 0.006, 0.522), (x + 0.006, 0.549)], (60, 80, 110), 0.003)
        canvas.line([(x, 0.535), (x + 0.012, 0.535)], (60, 80, 110), 0.003)
    canvas.polygon(_box(left + 0.078, 0.524, left + 0.088, foot), (58, 74, 96))
    return canvas.layer(0.12)


def _box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def tree(size: tuple[int, int], foot: Point, height: float, leaves: Sequence[Color], seed: int) -> Layer:
    """A broad-leaved tree: branches grown by halving, leaves in tufts lit from the sun's side."""
    canvas, rng = Canvas(size), np.random.default_rng(seed)
    tips: list[tuple[float, float, float]] = []
    aspect = size[0] / size[1]

    def grow(x: float, y: float, length: float, angle: float, width: float, depth: int) -> None:
        bend = angle + rng.normal(0, 0.1)
        middle = (x + aspect * length * 0.5 * sin(angle), y - length * 0.5 * cos(angle))
        end = (middle[0] + aspect * length * 0.5 * sin(bend), middle[1] - length * 0.5 * cos(bend))
        _branch(canvas, [(x, y), middle, end], width, rng)
        if depth < 5:
            tips.append((*end, length))
        if depth:
            for side in (-1, 1, 0.1):
                turn = bend + side * rng.uniform(0.4, 0.7) + rng.normal(0, 0.1)
                grow(*end, length * rng.uniform(0.66, 0.8), turn, width * 0.58, depth - 1)

    grow(*foot, height * 0.28, rng.normal(0, 0.04), height * 0.042, 5)
    for light, x, y in sorted(_tufts(tips, aspect, height, rng)):
        tint = ramp(as_field(light), [(i / (len(leaves) - 1), c) for i, c in enumerate(leaves)])
        color = tuple(float(c) for c in tint * rng.uniform(0.86, 1.12))
        reach = height * (0.0095 - 0.0045 * light) * rng.uniform(0.7, 1.3)
        canvas.dot((x, y), (reach, reach * 0.6), rng.uniform(0, 180), color)
    # The grass stands in front of the root.
    ragged = grid(size)[0] + 0.04 * noise((1, size[1]), (1, 160), 2, seed)
    return as_field(canvas.layer() * (1 - smooth(foot[1], foot[1] + 0.02, as_field(ragged)))[..., None])


def _branch(canvas: Canvas, points: list[Point], width: float, rng: np.random.Generator) -> None:
    canvas.line(points, (36, 44, 56), width)
    aspect = canvas.size[0] / canvas.size[1]
    for _ in range(round(700 * width)):
        # Bark: short streaks along the branch, light towards the sun.
        across, along = rng.uniform(-0.45, 0.45), rng.random()
        (x0, y0), (x1, y1) = points[0], points[1]
        x, y = x0 + (x1 - x0) * along * 2 + aspect * width * across, y0 + (y1 - y0) * along * 2
        tone = 0.75 + 0.55 * across * np.sign(SUN[0] - x0) + rng.normal(0, 0.22)
        color = tuple(float(np.clip(c * tone, 8, 255)) for c in (66, 86, 112))
        canvas.line([(x, y), (x + (x1 - x0) * 0.2, y + (y1 - y0) * 0.2)], color, width * 0.07)


def _tufts(
    tips: list[tuple[float, float, float]], aspect: float, height: float, rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    # (light 0-1, x, y) of every leaf: bright on the sun's side of the crown and of its own tuft.
    cx, cy = np.mean([tip[:2] for tip in tips], axis=0)
    sunward = np.sign(SUN[0] - cx)
    leaves = []
    for x, y, length in tips:
        own = rng.normal(0, 0.1)
        for dx, dy in rng.normal(0, 0.42 * length, (26, 2)):
            px, py = x + dx * aspect, y + dy
            crown = (px - cx) / aspect * sunward - 1.1 * (py - cy)
            light = 0.4 + 0.75 * crown / height + 0.28 * (dx * sunward - dy) / length + own + rng.normal(0, 0.1)
            leaves.append((float(np.clip(light, 0, 1)), float(px), float(py)))
    return leaves


def bank(x: Field | float) -> Field:
    """Upper edge of the near meadow over ``x``, fractions of the picture."""
    x = as_field(x)
    return as_field(0.825 + 0.03 * np.sin(2.6 * x + 0.6) + 0.012 * np.sin(9 * x))


def meadow(size: tuple[int, int]) -> Layer:
    """The near shore: soil and moss by noise, a trodden path, blades of grass and flowers."""
    y, x = grid(size)
    depth = as_field(y - bank(x))
    texture = 0.6 * noise(size, (14, 16), 5, 21) + 0.4 * noise(size, (90, 120), 2, 22)
    color = ramp(texture, [(0, (26, 46, 38)), (0.45, (44, 92, 84)), (0.8, (66, 138, 142)), (1, (94, 172, 184))])
    path = np.exp(-(((depth - 0.088 - 0.01 * np.sin(7 * x)) / 0.02) ** 2))[..., None] * (
        0.45 + 0.5 * texture[..., None]
    )
    color = as_field(color * (1 - path) + path * np.array((124, 160, 188), np.float32))
    ragged = depth + 0.012 * (noise((1, size[1]), (1, 90), 3, 23) - 0.5)
    ground = layer(as_field(color), as_field(np.clip(ragged * size[0] + 0.5, 0, 1)))
    grass = _grass(size, texture)
    return over(ground, grass)


def _grass(size: tuple[int, int], texture: Field) -> Layer:
    canvas, rng = Canvas(size), np.random.default_rng(24)
    for depth in np.sort(rng.random(3400)) * 0.2:
        x = rng.random()
        y = float(bank(x)) + depth
        if y > 1.02 or abs(depth - 0.088) < 0.024 * rng.random():
            continue
        tall = (0.018 + 0.17 * depth) * rng.uniform(0.5, 1.3)
        lean = rng.normal(0.25, 0.35) * tall * size[0] / size[1]
        bright = (
            0.45 + 0.75 * float(texture[min(int(y * size[0]), size[0] - 1), int(x * size[1])]) + rng.normal(0, 0.14)
        )
        color = tuple(float(np.clip(c * bright, 0, 255)) for c in (52, 138 + 30 * rng.random(), 142))
        canvas.line([(x, y), (x + lean * 0.4, y - tall * 0.6), (x + lean, y - tall)], color, 0.0016 + 0.009 * depth)
        if rng.random() < 0.035:
            petal = ((236, 240, 246), (92, 190, 250), (196, 130, 190))[rng.integers(3)]
            canvas.dot((x + lean, y - tall), (0.003 + 0.018 * depth, 0.0025 + 0.013 * depth), 0, petal)
    return canvas.layer()
