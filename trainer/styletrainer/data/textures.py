"""Drawn style pictures: stripes, dots, cells and strokes in random palettes.

A handful of artworks would be learned by heart. A style encoder that has seen thousands of colours and textures
has something to compare an artwork with that it never saw.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_SOFTENED = 0.5  # pixels, sigma of the blur that takes the jagged edges away


def draw_texture(side: int, random: np.random.Generator) -> Picture:
    """A texture of one kind, in a palette of 2 to 6 colours: RGB uint8 (side, side, 3)."""
    palette = random.integers(0, 256, (random.integers(2, 7), 3)).astype(np.float32)
    kinds = (_stripes, _dots, _cells, _strokes)
    drawn = kinds[random.integers(len(kinds))](side, palette, random)
    # Paint is never of one brightness.
    shade = 1 + random.uniform(0, 0.3) * _noise(side, random.uniform(1, 12), random)[:, :, None]
    blurred = cv2.GaussianBlur(drawn * shade, (0, 0), _SOFTENED)
    return np.asarray(blurred.clip(0, 255), np.uint8)


def recolour(pictures: Picture, random: np.random.Generator) -> Picture:
    """Other colours for ``pictures`` (..., 3), RGB uint8: channels swapped, hue turned, contrast, light."""
    mixed = pictures[..., random.permutation(3)].astype(np.float32) / 255
    axis = np.full(3, 3**-0.5)
    turned, _ = cv2.Rodrigues(axis * random.uniform(-np.pi, np.pi))
    grey = np.full((3, 3), 1 / 3)
    matrix = random.uniform(0.5, 1.5) * (turned - grey) + grey  # saturation
    mixed = (mixed - 0.5) @ matrix.T.astype(np.float32) * random.uniform(0.6, 1.3) + random.uniform(0.35, 0.65)
    if random.random() < 0.25:
        mixed = 1 - mixed
    return np.asarray(mixed.clip(0, 1) * 255, np.uint8)


def _noise(side: int, size: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise (side, side) with spots of about ``size`` pixels, -1 to 1."""
    cells = max(int(side / size), 2)
    coarse = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _stripes(side: int, palette: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle, period = random.uniform(0, np.pi), random.uniform(6, 48)
    bent = random.uniform(0, 2) * period * _noise(side, random.uniform(30, 120), random)
    along = (x * np.cos(angle) + y * np.sin(angle) + bent) / period
    return palette[np.floor(along).astype(int) % len(palette)]


def _dots(side: int, palette: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    period = random.uniform(6, 40)
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = palette[0]
    largest, jitter = period * random.uniform(0.25, 0.7), period * random.uniform(0, 0.5)
    for y in np.arange(0, side + period, period):
        for x in np.arange(0, side + period, period):
            centre = (int(x + random.uniform(-jitter, jitter)), int(y + random.uniform(-jitter, jitter)))
            colour = palette[random.integers(1, len(palette))].tolist()
            cv2.circle(picture, centre, max(int(largest * random.uniform(0.6, 1)), 1), colour, -1)
    return picture


def _cells(side: int, palette: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Voronoi cells, with or without lines between them."""
    count = int((side / random.uniform(8, 60)) ** 2) + 4
    seeds = np.full((side, side), 255, np.uint8)
    seeds[random.integers(0, side, count), random.integers(0, side, count)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = palette[random.integers(len(palette), size=int(labels.max()) + 1)]
    picture = colours[labels] + random.uniform(-25, 25, (len(colours), 3)).astype(np.float32)[labels]
    if random.random() < 0.5:
        edges = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        picture[edges] = palette[0]
    return np.asarray(picture, np.float32)


def _strokes(side: int, palette: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Short brush strokes that follow a smooth field of directions, colours in patches."""
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = palette[0]
    field = np.pi * _noise(side, random.uniform(40, 160), random)
    patches = _noise(side, random.uniform(20, 100), random)
    width, length = random.integers(1, 8), random.uniform(6, 40)
    for _ in range(min(int(3 * side * side / (width * length)), 2500)):
        y, x = random.integers(0, side, 2)
        half = length / 2 * np.array([np.cos(field[y, x]), np.sin(field[y, x])])
        index = int((patches[y, x] + 1) / 2 * len(palette) + random.uniform(-0.7, 0.7)) % len(palette)
        colour = (palette[index] + random.uniform(-20, 20)).tolist()
        start, end = np.array([x, y]) - half, np.array([x, y]) + half
        cv2.line(picture, start.astype(int).tolist(), end.astype(int).tolist(), colour, int(width))
    return picture
