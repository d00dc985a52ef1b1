"""int8 on real photographs: which ones, and how many layers stay float for the styled picture to stay what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from styleexport.errors import ExportError
from styleexport.int8_from_onnx import int8_from_onnx
from styleexport.verify import Codes, Difference, Frame, Sample, code_of, run_frames, verify_each_style
from stylesdk.onnx_file import manifest_from_onnx
from styletrainer.data.crops import read_picture
from styletrainer.data.photos import list_photos

_PHOTOS = 32
_SIDE = 256  # pixels


def int8_within_tolerance(
    fp32: bytes, source: str, calibration: Sequence[Sample], samples: Sequence[Sample], wanted: Sequence[Frame]
) -> tuple[bytes, Difference]:
    """The int8 form of a model with the fewest float layers that is close in every style, and its difference.

    Args:
        fp32: serialised fp32 model.
        source: what to call it in errors.
        calibration: photographs to find ranges and rounding on.
        samples: others, to verify on.
        wanted: what the fp32 model gives for ``samples``.

    Raises:
        ExportError: a style outside the tolerance even with the last and the first convolution in float.
    """
    styles, what = manifest_from_onnx(fp32, source).styles, f"int8 of {source}"
    for float_layers in (0, 1, 2):
        int8 = int8_from_onnx(fp32, source, calibration, float_layers)
        try:
            return int8, verify_each_style(samples, styles, wanted, run_frames(int8, samples), "int8", what)
        except ExportError as error:
            refusal = error
    raise refusal


def calibration_samples(photos: Path | None, styles: int, codes: Codes | None = None) -> list[Sample]:
    """The middle of photographs; of several ``styles`` each is seen at least four times.

    Raises:
        ExportError: no folder, or nothing in it that reads as a picture.
        TrainError: a folder without pictures.
    """
    paths = list_photos(photos) if photos else []
    every = max(len(paths) // _PHOTOS, 1)
    # Between those that `verification_samples` takes, where there are enough.
    pictures = [p for p in map(read_picture, paths[every // 2 :: every][:_PHOTOS]) if p is not None]
    if not pictures:
        raise ExportError(
            "got: no photographs for int8, which finds its ranges on them; expected: some real photos.\n"
            "Do this: give --photos a folder with a dozen or more."
        )
    frames = [np.ascontiguousarray(_middle(p)[:, :, ::-1]) for p in pictures]
    if styles == 1:
        return [Sample(frame, code=code_of(None, codes)) for frame in frames]
    each = np.eye(styles, dtype=np.float32)
    return [
        Sample(frames[i % len(frames)], style=each[i % styles], code=code_of(each[i % styles], codes))
        for i in range(max(_PHOTOS, 4 * styles))
    ]


def _middle(picture: Frame) -> Frame:
    top, left = (max(side - _SIDE, 0) // 2 for side in picture.shape[:2])
    return picture[top : top + _SIDE, left : left + _SIDE]
