"""Pairs of tests: a CSV beside the pictures that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

HEADER = "source,target,style,similarity"


def make_pairs(folder: Path, sources: int = 4, styles: Sequence[str] = ("red", "blue")) -> Path:
    """Photos of soft blobs and their targets, the photo's brightness in the style's colour; returns the CSV."""
    random = np.random.default_rng(0)
    (folder / "sources").mkdir(parents=True)
    (folder / "targets").mkdir()
    lines = [HEADER]
    for number in range(sources):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (96, 80), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"sources/{number}.png"), photo)
        for style in styles:
            colour = {"red": (40, 60, 250), "blue": (250, 80, 30)}.get(style, (60, 200, 60))
            target = (photo.mean(2, keepdims=True) / 255 * colour).astype(np.uint8)
            cv2.imwrite(str(folder / f"targets/{number}-{style}.png"), target)
            lines.append(f"sources/{number}.png,targets/{number}-{style}.png,{style},{1 - number / 10}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "pairs.csv"
