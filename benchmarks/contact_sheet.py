"""The README's pictures: every style on six kinds of picture, five of them public-domain photos inside dependencies.

    python benchmarks/contact_sheet.py docs/pictures/styles.jpg STYLE... --width 150
    python benchmarks/contact_sheet.py docs/pictures/reference.jpg RUN starry_night --crop 320 --photo portrait

A style is a bundled name, MODEL:STYLE, an ONNX file, or a run folder. At 100 % with --crop, else scaled to a width.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
import typer
from model_files import Subject, subjects_of
from pictures import write_picture
from reports import run_script

from stylesdk.frames import Frame

SIDE = 480  # pixels, short side of the photos: a webcam's


def photos() -> dict[str, Frame]:
    """Kind -> BGR picture: public-domain and CC0 photos of scikit-image and matplotlib, and a page printed here.

    None has a photo of a group: both portraits, and mirrored, at half the size stand for one.
    """
    portrait = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    assert portrait is not None
    hopper = np.asarray(portrait, dtype=np.uint8)
    astronaut = _bgr(skimage.data.astronaut())
    found = {
        "portrait": astronaut,
        "portrait-2": hopper,
        "group": _group(astronaut, hopper),
        "street": _bgr(cv2.cvtColor(skimage.data.camera(), cv2.COLOR_GRAY2RGB)),
        "landscape": _bgr(skimage.data.rocket()),
        "interior": _bgr(skimage.data.coffee()),
        "text": _page(),
    }
    return {kind: _webcam_sized(picture) for kind, picture in found.items()}


def _bgr(rgb: Frame) -> Frame:
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _group(one: Frame, other: Frame) -> Frame:
    """The upper squares of two portraits, and both mirrored below, each 240x240."""
    row = cv2.hconcat([cv2.resize(p[: p.shape[1]], (240, 240), interpolation=cv2.INTER_AREA) for p in (one, other)])
    return np.asarray(cv2.vconcat([row, cv2.flip(row, 1)]), dtype=np.uint8)


def _page() -> Frame:
    """Printed lines in four sizes on paper of uneven light, 480x640."""
    light = np.linspace(245, 205, 640)[None] - np.linspace(0, 25, 480)[:, None]
    page = np.ascontiguousarray(np.repeat(light[..., None], 3, axis=2) * (0.92, 0.97, 1.0)).astype(np.uint8)
    lines = {"STYLES": 3.2, "painted live": 1.6, "strokes follow forms": 1.2, "letters can be read": 0.9, "012345": 1.6}
    for i, (line, size) in enumerate(lines.items()):
        cv2.putText(page, line, (90, 110 + 84 * i), cv2.FONT_HERSHEY_COMPLEX, size, (45, 40, 38), 2, cv2.LINE_AA)
    return page


def _webcam_sized(picture: Frame) -> Frame:
    """Scaled to a short side of ``SIDE`` pixels, cut to 4:3 around the middle, upper part of a portrait."""
    scale = SIDE / min(picture.shape[:2])
    resized = cv2.resize(
        picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    height, width = min(resized.shape[0], SIDE), min(resized.shape[1], SIDE * 4 // 3)
    left = (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[:height, left : left + width])


def _cell(picture: Frame, crop: int | None, width: int) -> Frame:
    if crop:  # at 100 %, a little above the middle, where faces are
        y, x = max((picture.shape[0] - crop) // 3, 0), (picture.shape[1] - crop) // 2
        return picture[y : y + crop, x : x + crop]
    middle = (picture.shape[1] - SIDE) // 2
    square = picture[:SIDE, middle : middle + SIDE]
    return np.asarray(cv2.resize(square, (width, width), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def main(
    output: Annotated[Path, typer.Argument(help="JPEG or PNG to write.")],
    styles: Annotated[list[str], typer.Argument(help="Columns: bundled styles, ONNX files, run folders.")],
    crop: Annotated[int | None, typer.Option(help="Side of a crop at 100 %, in pixels.")] = None,
    width: Annotated[int, typer.Option(help="Width of a picture without --crop, in pixels.")] = 200,
    rows: Annotated[list[str] | None, typer.Option("--photo", help="Photos to show; all by default.")] = None,
) -> None:
    """Write the sheet: a row a photo, the photo first, then every style."""
    known = photos()
    if unknown := set(rows or ()) - known.keys():
        raise typer.BadParameter(f"got: --photo {', '.join(unknown)}; expected: some of {', '.join(known)}")
    pictures = {name: picture for name, picture in known.items() if not rows or name in rows}
    columns = [list(pictures.values())]
    with tempfile.TemporaryDirectory() as folder:
        subjects: list[Subject] = [subject for style in styles for subject in subjects_of(style, Path(folder))]
        columns += [subject.run(columns[0]) for subject in subjects]
    lines = [cv2.hconcat([_cell(column[i], crop, width) for column in columns]) for i in range(len(pictures))]
    write_picture(output, np.asarray(cv2.vconcat(lines), dtype=np.uint8))


if __name__ == "__main__":
    run_script(main)
