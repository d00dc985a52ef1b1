"""Photos to measure on, and a sheet of pictures to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import typer

from stylesdk.frames import Frame
from styletrainer.data.crops import read_picture
from styletrainer.data.photos import list_photos

HELD_OUT = Path(__file__).with_name("held_out.txt")
WHITE = (255, 255, 255)
TITLE = 24  # pixels of a column's title
GAP = 4


@dataclass(frozen=True)
class Photo:
    """A photograph, BGR uint8 (H, W, 3), and what kind it is ("" where nobody said)."""

    name: str
    kind: str
    frame: Frame


def held_out_kinds() -> dict[str, str]:
    """Name -> kind of the photos that training leaves out."""
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def photos_from(folder: Path, count: int) -> list[Photo]:
    """The held-out photos where the folder has them all, else ``count`` spread over it."""
    paths = list_photos(folder)
    kinds = held_out_kinds()
    by_name = {path.stem: path for path in paths}
    if kinds.keys() <= by_name.keys():
        paths = [by_name[name] for name in kinds]
    else:
        paths = paths[:: max(len(paths) // count, 1)][:count]
    pictures = ((path.stem, read_picture(path)) for path in paths)
    return [
        Photo(name, kinds.get(name, ""), np.ascontiguousarray(rgb[:, :, ::-1]))
        for name, rgb in pictures
        if rgb is not None
    ]


def one_of_a_kind(photos: Sequence[Photo], most: int = 6) -> list[int]:
    """Index of the first photo of every kind; of the first ones where they have no kinds."""
    kinds = [photo.kind or photo.name for photo in photos]
    return [kinds.index(kind) for kind in dict.fromkeys(kinds)][:most]


def sheet(columns: dict[str, Sequence[Frame]]) -> Frame:
    """Pictures at full size, a titled column for every entry, the same row for the same photo."""
    width = max(picture.shape[1] for picture in next(iter(columns.values()))) + GAP
    lines = [cv2.hconcat([_titled(title, width) for title in columns])]
    lines += [cv2.hconcat([_placed(picture, width) for picture in row]) for row in zip(*columns.values(), strict=True)]
    return np.asarray(cv2.vconcat(lines), dtype=np.uint8)


def write_picture(path: Path, picture: Frame) -> None:
    """Write a picture in the format that its suffix names, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        written = cv2.imwrite(str(path), picture, options)
    except cv2.error:  # a suffix that names no format
        written = False
    if not written:
        raise typer.BadParameter(f"got: {path}; expected: a path that can be written, .jpg or .png")


def _titled(title: str, width: int) -> Frame:
    band = np.full((TITLE, width, 3), 255, np.uint8)
    return np.asarray(cv2.putText(band, title, (2, TITLE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0)), np.uint8)


def _placed(picture: Frame, width: int) -> Frame:
    right = width - picture.shape[1]
    placed = cv2.copyMakeBorder(picture, 0, GAP, 0, right, cv2.BORDER_CONSTANT, value=WHITE)
    return np.asarray(placed, dtype=np.uint8)
