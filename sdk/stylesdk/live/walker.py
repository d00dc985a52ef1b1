"""The walker of the demo scene: a person in a red coat, drawn anew for every phase of the step.

Points are in body heights: x forward, y down. Angles are radians from straight down, forwards.
"""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from stylesdk.live.scenery import Field, Layer, as_field, noise

Color = tuple[float, float, float]
Point = tuple[float, float]

_FINE = 4  # supersampling
_COAT, _COAT_LIT, _COAT_DARK = (46, 44, 178), (74, 84, 222), (34, 26, 108)
_SKIN, _SKIN_LIT, _HAIR, _EYE = (138, 172, 222), (158, 196, 240), (34, 44, 66), (60, 68, 84)
_SCARF, _BELT, _HAT, _BRIM = (70, 186, 236), (30, 34, 52), (104, 84, 58), (142, 122, 92)
_TROUSERS, _TROUSERS_FAR = (92, 62, 48), (64, 43, 34)
_BOOT, _BOOT_FAR = (30, 38, 54), (21, 27, 38)


def walker(height: int, phase: float) -> Layer:
    """A person walking to the right: (height, 0.7 height, 4), soles on the lowest row.

    Args:
        height: pixels from sole to crown.
        phase: radians, one turn for two steps.
    """
    near, far = _leg(phase), _leg(phase + pi)
    # The lower foot stands on the ground, so the body rises and falls by itself.
    hip = (0.35, 0.988 - max(y for _, y in near + far))
    neck = (hip[0] + 0.015, hip[1] - 0.325)
    shoulder = (neck[0] - 0.004, neck[1] + 0.045)
    paper = _Paper(height)
    paper.limb(_arm(phase), shoulder, _COAT_DARK, 0.05)
    paper.limb(_arm(phase)[2:], shoulder, _SKIN, 0.034)
    for leg, trousers, boot in ((far, _TROUSERS_FAR, _BOOT_FAR), (near, _TROUSERS, _BOOT)):
        paper.limb(leg[:3], hip, trousers, 0.068)
        paper.limb(leg[2:], hip, boot, 0.05)
    _coat(paper, hip, 0.022 * sin(phase))
    _scarf(paper, neck, 0.02 * sin(2 * phase + 0.7))
    _head(paper, (neck[0] + 0.014, neck[1] - 0.058))
    arm = _arm(phase + pi)
    paper.limb(arm, shoulder, _COAT, 0.054)
    paper.limb([(x + 0.009, y - 0.004) for x, y in arm[:3]], shoulder, _COAT_LIT, 0.018)
    paper.limb(arm[2:], shoulder, _SKIN, 0.036)
    return paper.layer()


class _Paper:
    """A transparent sheet, 1 body height high and 0.7 wide."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._unit = height * _FINE
        self._paint = np.zeros((self._unit, round(0.7 * height) * _FINE, 4), np.uint8)

    def _at(self, points: list[Point], origin: Point) -> NDArray[np.int32]:
        return np.rint((np.array(points) + origin) * self._unit * 16).astype(np.int32)

    def limb(self, points: list[Point], at: Point, color: Color, width: float) -> None:
        where, thick = self._at(points, at), round(width * self._unit)
        cv2.polylines(self._paint, [where], False, (*color, 255), thick, cv2.LINE_8, 4)

    def shape(self, points: list[Point], at: Point, color: Color) -> None:
        cv2.fillPoly(self._paint, [self._at(points, at)], (*color, 255), cv2.LINE_8, 4)

    def oval(self, at: Point, center: Point, radii: Point, color: Color, arc: Point = (0, 360)) -> None:
        x, y = (round((a + c) * self._unit) for a, c in zip(at, center, strict=True))
        axes = (round(radii[0] * self._unit), round(radii[1] * self._unit))
        cv2.ellipse(self._paint, (x, y), axes, 0, *arc, (*color, 255), -1)

    def layer(self) -> Layer:
        size = (self._paint.shape[1] // _FINE, self._height)
        small = as_field(cv2.resize(self._paint, size, interpolation=cv2.INTER_AREA))
        small[..., :3] *= _cloth(self._height)[:, : size[0], None]
        small[..., 3] /= 255
        return small


@lru_cache(maxsize=2)
def _cloth(height: int) -> Field:
    return as_field(0.82 + 0.36 * noise((height, height), (12, 12), 3, 81))


def _leg(phase: float) -> list[Point]:
    # Hip, knee, ankle, toe; the knee bends while the leg swings forward.
    thigh = 0.42 * sin(phase) + 0.05
    shin = thigh - 0.1 - 0.85 * max(0.0, cos(phase)) ** 1.5
    foot = shin * 0.6 + 0.25 * max(0.0, sin(phase))
    knee = (0.245 * sin(thigh), 0.245 * cos(thigh))
    ankle = (knee[0] + 0.235 * sin(shin), knee[1] + 0.235 * cos(shin))
    return [(0.0, 0.0), knee, ankle, (ankle[0] + 0.065 * cos(foot), ankle[1] - 0.065 * sin(foot) + 0.012)]


def _arm(phase: float) -> list[Point]:
    # Shoulder, elbow, wrist, fingers.
    upper = 0.5 * sin(phase)
    fore = upper + 0.35 + 0.2 * sin(phase)
    elbow = (0.15 * sin(upper), 0.15 * cos(upper))
    wrist = (elbow[0] + 0.135 * sin(fore), elbow[1] + 0.135 * cos(fore))
    return [(0.0, 0.0), elbow, wrist, (wrist[0] + 0.022 * sin(fore), wrist[1] + 0.022 * cos(fore))]


def _coat(paper: _Paper, hip: Point, sway: float) -> None:
    nape, waist, hem = (-0.058, -0.3), (-0.07, -0.1), (-0.105 - sway, 0.1)
    paper.shape([nape, waist, hem, (0.0, 0.115), (0.03, -0.28), (0.0, -0.325)], hip, _COAT)
    chest, belly, front = (0.07, -0.26), (0.062, -0.06), (0.1 - sway, 0.1)
    paper.shape([(0.03, -0.315), chest, belly, front, (0.0, 0.115), (0.012, -0.2)], hip, _COAT_LIT)
    paper.shape([nape, waist, hem, (-0.06 - sway, 0.108), (-0.03, -0.1), (-0.02, -0.3)], hip, _COAT_DARK)
    paper.limb([(-0.066, -0.075), (0.064, -0.07)], hip, _BELT, 0.016)


def _scarf(paper: _Paper, neck: Point, flutter: float) -> None:
    paper.limb([(0.0, 0.03), (0.004, -0.03)], neck, _SKIN, 0.045)
    upper = [(-0.02, 0.0), (-0.12, 0.03 + flutter), (-0.165, 0.02 - flutter)]
    lower = [(-0.155, 0.06 - flutter), (-0.1, 0.07 + flutter), (0.0, 0.05)]
    paper.shape(upper + lower, neck, _SCARF)
    paper.limb([(-0.028, 0.026), (0.036, 0.03)], neck, _SCARF, 0.042)


def _head(paper: _Paper, at: Point) -> None:
    paper.oval(at, (-0.016, 0.006), (0.052, 0.06), _HAIR)
    paper.oval(at, (0.008, 0.008), (0.042, 0.052), _SKIN)
    paper.oval(at, (0.048, 0.012), (0.012, 0.01), _SKIN)
    paper.oval(at, (0.02, 0.004), (0.029, 0.042), _SKIN_LIT, (-70, 70))
    paper.oval(at, (0.034, -0.002), (0.005, 0.006), _EYE)
    paper.oval(at, (-0.012, -0.008), (0.03, 0.03), _HAIR)
    paper.oval(at, (-0.002, -0.022), (0.056, 0.046), _HAT, (180, 360))
    paper.oval(at, (-0.002, -0.024), (0.058, 0.014), _BRIM)
