"""Is what is shipped what was trained? torch against ONNX, in steps of 8-bit pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from styleexport.contract import FrameContract
from styleexport.errors import ExportError

Frame = NDArray[np.uint8]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """What a model is asked: a BGR uint8 (H, W, 3) frame, a strength, and of several styles their weights (S,)."""

    frame: Frame
    strength: float = 1.0
    style: Weights | None = None


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that are let through, in 8-bit steps; ``mean`` is over every channel of every pixel."""

    max: float
    mean: float
    do: str = "train on, or longer; weights of a run cut short fit neither fp16 nor int8"  # where it is outside


# Rounding at a half can go either way in fp32; fp16 has 11 bits for values up to 255; int8 rounds every layer,
# and a hard edge may come out elsewhere by a pixel. `int8_for_tensorrt` says where the last one comes from.
TOLERANCES = {
    "fp32": Tolerance(max=1, mean=0.02),
    "fp16": Tolerance(max=8, mean=0.5),
    "int8": Tolerance(max=96, mean=2),
    "int8 plan": Tolerance(max=128, mean=3, do="build the plan in fp16, from the fp32 file"),
}


@dataclass(frozen=True)
class Difference:
    """Differences over all frames, in 8-bit steps."""

    max: float
    mean: float
    frames: int


def run_torch(contract: FrameContract, sample: Sample) -> Frame:
    """The contract in torch on one sample."""
    style = None if sample.style is None else torch.from_numpy(sample.style)
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
        if sample.style is not None:
            feeds["style"] = sample.style
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
    """What of a network of several styles a sample shows; of one style all samples are judged together."""
    if sample.style is None:
        return ""
    alone = np.count_nonzero(sample.style) == 1
    name = f", style {styles[int(sample.style.argmax())]}" if alone else ", a blend of styles"
    # Half the strength is half the difference: such a frame must not make up for one at full strength.
    return name if sample.strength == 1 else f"{name} at strength {sample.strength:g}"
