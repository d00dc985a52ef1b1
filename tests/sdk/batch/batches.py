"""What the batch tests make, and what they compare."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from clips import make_clip, read_clip

from stylesdk.batch import Job, plan_batch
from stylesdk.live.scene import render_frame

MODEL = "starry_night.nano"
IMAGES = 200


def photo(path: Path, index: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), render_frame(index, IMAGES, (90, 160)))
    return path


def clip(path: Path, frames: int = 12, sound: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_clip(path, times=range(frames), base=Fraction(1, 25), last=1, sound=sound)


def job(source: str | Path, output: str | Path, **options: object) -> tuple[Job, list]:
    origin, place, files = plan_batch(str(source), str(output))
    # As many threads as a worker of Ray has: sums may depend on it.
    settings = {"model": MODEL, "threads": 1} | options
    return Job(origin, place, **settings), files


def tree(folder: Path) -> set[str]:
    """Every file below, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="bgr24") for frame in file.decode(video=0)]


def assert_same_trees(one: Path, other: Path) -> None:
    """The same names; images with the same bytes, videos with the same frames and the same sound."""
    assert tree(one) == tree(other)
    assert not list(other.rglob(".*"))
    for name in tree(one):
        if Path(name).suffix in (".mp4", ".mkv"):
            np.testing.assert_array_equal(decoded(one / name), decoded(other / name))
            assert read_clip(one / name) == read_clip(other / name)
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
