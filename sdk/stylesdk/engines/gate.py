"""The accuracy gate: are a plan's pictures, on this GPU, those of its ONNX file?

A builder chooses kernels by the GPU, and a kernel can be wrong on one GPU only. So a plan is compared where it will
run, on what it will see, before anybody sees its pictures.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.backends import Backend
from stylesdk.engines.lock import Cancelled
from stylesdk.errors import DeviceError, MissingExtraError
from stylesdk.frames import Frame
from stylesdk.latency import usable_cores
from stylesdk.manifest import Manifest
from stylesdk.mix import Weights
from stylesdk.palette import Palette
from stylesdk.tiles import run_in_tiles, tiles_for


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that are let through, in steps of 255; ``mean`` is over every channel of every pixel."""

    max: float
    mean: float


# By the plan's precision; those of `styleexport.verify` for fp16 against fp32, and for an int8 plan against its file.
TOLERANCES = {"fp16": Tolerance(max=8, mean=0.5), "int8": Tolerance(max=128, mean=3)}


@dataclass(frozen=True)
class Difference:
    """Differences over all frames, in steps of 255."""

    max: float
    mean: float
    frames: int


@dataclass(frozen=True)
class _Sample:
    label: str  # what is judged by itself
    frame: Frame
    strength: float
    style: Weights | None


def check_accuracy(
    plan: Backend, data: bytes, manifest: Manifest, photos: Sequence[Frame], cancelled: threading.Event
) -> Difference:
    """Compare a plan with its ONNX file on onnxruntime's CPU, on ``photos`` and on the rendered scene.

    The scene is always among them: it has every tone, so that a plan whose pictures are black does not pass
    because the photos are. Each style is judged by itself, and a blend at half the strength too.

    Args:
        plan: the open plan.
        data: its ONNX file.
        manifest: of the ONNX file.
        photos: BGR uint8 (H, W, 3) frames of the size that the plan takes; other sizes are left out.
        cancelled: ends the comparison.

    Raises:
        DeviceError: outside ``TOLERANCES``; the text names the style and the figures.
        MissingExtraError: onnxruntime is not installed.
        Cancelled: ``cancelled`` was set.
    """
    assert plan.manifest is not None and plan.manifest.max_size is not None
    size, precision = plan.manifest.max_size, plan.manifest.precision
    reference = _Reference(data, manifest, as_written=precision == "int8")
    frames = [photo for photo in photos if photo.shape[:2] == size] + [scene(size)]
    found: dict[str, list[Difference]] = {}
    for sample in _samples(frames, Palette(manifest, Path())):
        if cancelled.is_set():
            raise Cancelled
        wanted = reference.infer(sample)
        found.setdefault(sample.label, []).append(
            _difference(wanted, plan.infer(sample.frame, sample.strength, sample.style))
        )
    for label, differences in found.items():
        _judge(label, _over_all(differences), precision, plan.name)
    return _over_all([each for differences in found.values() for each in differences])


def scene(size: tuple[int, int]) -> Frame:
    """The demo's scene, BGR uint8, (height, width) ``size``: cut where that is smaller, mirrored where larger."""
    from stylesdk.live.scene import render_frame

    frame = render_frame(0, 1)[: size[0], : size[1]]
    beyond = [(0, side - has) for side, has in zip(size, frame.shape, strict=False)]
    return np.pad(frame, (*beyond, (0, 0)), "symmetric")


def _samples(frames: Sequence[Frame], palette: Palette) -> Iterator[_Sample]:
    for name in palette.names:
        for frame in frames:
            yield _Sample(f"style {name}", frame, 1.0, palette.input(name))
    yield _Sample("half the strength", frames[-1], 0.5, palette.input(dict.fromkeys(palette.names, 1.0)))


class _Reference:
    """onnxruntime on the CPU; large frames in tiles, as a Stylizer does it.

    ``as_written``: each rounding where an int8 graph has it; the fast products of bytes saturate on some CPUs.
    """

    def __init__(self, data: bytes, manifest: Manifest, *, as_written: bool) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "cpu", "checking a TensorRT plan") from error
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = max(usable_cores() // 2, 1)  # the others are for the picture
        if as_written:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session: Any = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._manifest = manifest

    def infer(self, sample: _Sample) -> Frame:
        feeds: dict[str, Any] = {"strength": np.array([sample.strength], np.float32)}
        if sample.style is not None:
            feeds["style"] = sample.style

        def run(frame: Frame) -> Frame:
            styled: Frame = self._session.run(["styled"], feeds | {"frame": frame[None]})[0][0]
            return styled

        height, width = sample.frame.shape[:2]
        tiles = tiles_for((height, width), self._manifest.reach, self._manifest.stride)
        return run(sample.frame) if tiles is None else run_in_tiles(sample.frame, tiles, run)


def _difference(wanted: Frame, found: Frame) -> Difference:
    steps = np.abs(wanted.astype(np.int16) - found)
    return Difference(float(steps.max()), float(steps.mean()), 1)


def _over_all(differences: Sequence[Difference]) -> Difference:
    """Of frames of one size."""
    mean = sum(each.mean for each in differences) / len(differences)
    return Difference(max(each.max for each in differences), mean, len(differences))


def _judge(label: str, found: Difference, precision: str, name: str) -> None:
    allowed = TOLERANCES[precision]
    if found.max > allowed.max or found.mean > allowed.mean:
        raise DeviceError(
            f"a new {precision} plan on {name}, {label}: differs from the ONNX file by up to {found.max:.0f}, "
            f"{found.mean:.3f} on average, of 255, over {found.frames} frames",
            expected=f"at most {allowed.max:.0f} and {allowed.mean}; the plan is not used, and was removed",
            do="update TensorRT and the driver, or use runtime='onnxruntime'",
        )


def figures(found: Difference) -> dict[str, float]:
    """As a sidecar's quality holds them."""
    return dataclasses.asdict(found)
