"""Is what is shipped what was trained? torch against ONNX, in steps of 8-bit pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from styleexport.errors import ExportError

if TYPE_CHECKING:  # torch is not there where a user's machine builds a plan
    from styleexport.contract import FrameContract

Frame = NDArray[np.uint8]
Weights = NDArray[np.float32]

_PHOTOS = 8
_SIDES = ((384, 512), (240, 320), (241, 319))  # the last one no stride divides


@dataclass(frozen=True)
class Sample:
    """What a model is asked: a BGR uint8 (H, W, 3) frame, a strength, and of several styles their weights (S,).

    Where styles are codes, ``code`` (C,) is the mix of them that the weights stand for.
    """

    frame: Frame
    strength: float = 1.0
    style: Weights | None = None
    code: Weights | None = None

    @property
    def given(self) -> Weights | None:
        """What the model's input ``style`` gets; None where it has none."""
        return self.style if self.code is None else self.code


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that are let through, in 8-bit steps; ``mean`` is over every channel of every pixel."""

    max: float
    mean: float
    do: str = "train on, or longer; weights of a run cut short fit neither fp16 nor int8"  # where it is outside


# Rounding at a half can go either way in fp32; fp16 has 11 bits for values up to 255; int8 rounds every layer,
# and a hard edge may come out elsewhere by a pixel: of what we ship, 101 on one pixel of twelve photos, with a mean
# of 1.3. `int8_for_tensorrt` says where the last one comes from.
TOLERANCES = {
    "fp32": Tolerance(max=1, mean=0.02),
    "fp16": Tolerance(max=8, mean=0.5),
    "int8": Tolerance(max=128, mean=2),
    "int8 plan": Tolerance(max=128, mean=3, do="build the plan in fp16, from the fp32 file"),
}


@dataclass(frozen=True)
class Difference:
    """Differences over all frames, in 8-bit steps."""

    max: float
    mean: float
    frames: int

    def __str__(self) -> str:
        return f"at most {self.max:.0f}, {self.mean:.4f} on average, of 255, over {self.frames} frames"


Codes = Sequence[Sequence[float]]  # of a manifest: (S, C)


def verification_samples(photos: Path | None, styles: int, codes: Codes | None = None) -> list[Sample]:
    """BGR frames of a few sizes, each with a strength: photos where there are some, else smooth noise.

    Each of several ``styles`` gets two pictures at full strength; a blend of all, or where styles are ``codes`` the
    mean of two, is seen at full and at half.
    """
    return samples_of(_pictures(photos), styles, codes)


def samples_of(pictures: Sequence[Frame], styles: int, codes: Codes | None = None) -> list[Sample]:
    """The same of RGB uint8 ``pictures`` of 384x512 and more."""
    if styles == 1:
        code = code_of(None, codes)
        return [Sample(_frame(p, i), 1.0 if i % 4 else 0.5, code=code) for i, p in enumerate(pictures)]
    blend = np.zeros(styles, np.float32)
    blend[: 2 if codes else styles] = 1 / (2 if codes else styles)
    weights = [*np.eye(styles, dtype=np.float32).repeat(2, axis=0), blend, blend]
    frames = [_frame(pictures[i % len(pictures)], i) for i in range(len(weights))]
    strengths = [1.0] * (len(weights) - 1) + [0.5]
    given = [code_of(each, codes) for each in weights]
    return [Sample(*values) for values in zip(frames, strengths, weights, given, strict=True)]


def code_of(weights: Weights | None, codes: Codes | None) -> Weights | None:
    """The mix of ``codes`` (S, C) by ``weights`` (S,), None for the first; None where styles are no codes."""
    if codes is None:
        return None
    table = np.array(codes, np.float32)
    return table[0] if weights is None else weights @ table


def _pictures(photos: Path | None) -> list[Frame]:
    pictures = _photographs(photos) if photos else []
    if not pictures:
        random = np.random.default_rng(0)
        waves = random.integers(0, 256, (_PHOTOS, 12, 16, 3), dtype=np.uint8)
        pictures = [np.asarray(cv2.resize(w, (512, 384), interpolation=cv2.INTER_CUBIC), np.uint8) for w in waves]
    return pictures


def _photographs(folder: Path) -> list[Frame]:
    from styletrainer.data.crops import read_picture
    from styletrainer.data.photos import list_photos

    paths = list_photos(folder)
    return [p for p in map(read_picture, paths[:: max(len(paths) // _PHOTOS, 1)][:_PHOTOS]) if p is not None]


def _frame(picture: Frame, index: int) -> Frame:
    height, width = _SIDES[index % len(_SIDES)]
    return np.ascontiguousarray(picture[:height, :width, ::-1])


def run_torch(contract: FrameContract, sample: Sample) -> Frame:
    """The contract in torch on one sample."""
    import torch

    style = None if sample.given is None else torch.from_numpy(sample.given)
    with torch.no_grad():
        styled = contract(torch.from_numpy(sample.frame.copy())[None], torch.tensor([sample.strength]), style)
    out: Frame = styled[0].numpy()
    return out


def run_frames(data: bytes, samples: Sequence[Sample], *, as_written: bool = False) -> list[Frame]:
    """Serialised ONNX on samples, on the CPU; ``as_written``: node by node, each rounding where the graph has it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found: list[Frame] = []
    for sample in samples:
        feeds = {"frame": sample.frame[None], "strength": np.array([sample.strength], np.float32)}
        if sample.given is not None:
            feeds["style"] = sample.given
        found.append(session.run(["styled"], feeds)[0][0])
    return found


def compare(reference: Sequence[Frame], found: Sequence[Frame]) -> Difference:
    """Maximum and mean absolute difference over pairs of frames. Raises ExportError where sizes differ."""
    largest, total, count = 0.0, 0.0, 0
    for left, right in zip(reference, found, strict=True):
        if left.shape != right.shape:
            raise ExportError(f"got: styled frame {right.shape}; expected: {left.shape}, the frame's own size")
        difference = np.abs(left.astype(np.int16) - right.astype(np.int16))
        largest = max(largest, float(difference.max()))
        total += float(difference.sum())
        count += difference.size
    return Difference(largest, total / max(count, 1), len(reference))


def verify(reference: Sequence[Frame], found: Sequence[Frame], precision: str, what: str) -> Difference:
    """``compare``, refused outside the tolerance of ``precision``."""
    difference, allowed = compare(reference, found), TOLERANCES[precision]
    if difference.max > allowed.max or difference.mean > allowed.mean:
        raise ExportError(
            f"got: {what} differs by up to {difference.max:.0f}, {difference.mean:.3f} on average, of 255, "
            f"over {difference.frames} frames; expected: at most {allowed.max:.0f} and {allowed.mean}.\n"
            f"Do this: {allowed.do}. Nothing was written."
        )
    return difference


def verify_each_style(
    samples: Sequence[Sample],
    styles: Sequence[str],
    reference: Sequence[Frame],
    found: Sequence[Frame],
    precision: str,
    what: str,
) -> Difference:
    """``verify`` for every style by itself, and for blends; returns the difference over all frames.

    Over all frames together a style that is rounded badly would hide behind the others.

    Raises:
        ExportError: a style outside the tolerance; the text names it.
    """
    labels = [_label(sample, styles) for sample in samples]
    for label in dict.fromkeys(labels):
        pairs = [(r, f) for r, f, of in zip(reference, found, labels, strict=True) if of == label]
        verify([r for r, _ in pairs], [f for _, f in pairs], precision, what + label)
    return compare(reference, found)


def _label(sample: Sample, styles: Sequence[str]) -> str:
    """Which style a sample shows, where there are several, and its strength below the full one."""
    name = ""
    if sample.style is not None:
        alone = np.count_nonzero(sample.style) == 1
        name = f", style {styles[int(sample.style.argmax())]}" if alone else ", a blend of styles"
    # Half the strength is half the difference: such a frame must not make up for one at full strength.
    return name if sample.strength == 1 else f"{name} at strength {sample.strength:g}"
