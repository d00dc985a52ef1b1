"""Backends: one narrow seam between the SDK and the runtimes.

A backend takes frames that ``frames.checked`` has passed, in a size that it declares, and nothing else.
"""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from stylesdk.errors import DeviceError, MissingExtraError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.gpu import cuda_usable
from stylesdk.gpu.gpu_frame import GpuFrame
from stylesdk.manifest import Manifest
from stylesdk.mix import Weights

DEVICES = ("auto", "cpu", "cuda")


class Backend(Protocol):
    """What a runtime must do."""

    @property
    def name(self) -> str:
        """What really runs: "onnxruntime (CPU)", "tensorrt_rtx 1.7 (NVIDIA …)". It may change between frames."""

    @property
    def manifest(self) -> Manifest | None:
        """Of what runs; None for a plan without its sidecar."""

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) in which a frame of ``size`` must come; ``size`` itself where any will do.

        Called once before each frame, so that what runs may change there.
        """

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        """Style one BGR uint8 (H, W, 3) frame; the result is the caller's to keep.

        ``style`` is float32: a code (C,) where the manifest has codes, else (S,) with sum 1 for a model of S > 1
        styles, and None for a model of one.
        """

    def close(self) -> None:
        """Free everything. Called exactly once; nothing is called after it."""


@runtime_checkable
class QueueingBackend(Backend, Protocol):
    """A runtime that can have more than one frame under way."""

    def submit(self, frame: Frame, strength: float, style: Weights | None = None) -> Any:
        """Start on a frame, as ``infer`` takes it; returns what ``collect`` wants, once, in the same order."""

    def collect(self, ticket: Any) -> Frame:
        """Wait for a frame; the result is the caller's to keep."""

    def drop(self, ticket: Any) -> None:
        """Instead of ``collect``: nobody wants the frame any more. Does nothing after ``close``."""


@runtime_checkable
class GpuBackend(Backend, Protocol):
    """A runtime that takes frames where they are, on the GPU."""

    def infer_on_gpu(self, frame: object, strength: float, style: Weights | None = None) -> GpuFrame:
        """As ``infer``, with a frame on the GPU in and out."""


def open_backend(path: Path, device: str, threads: int | None, runtime: str | None = None) -> Backend:
    """Open a model file: ``.onnx`` on ``runtime`` or the one that ``runtime_for`` names, plans on TensorRT.

    Runtimes are imported here and nowhere else, when they are needed.
    """
    if threads is not None and threads < 1:
        raise DeviceError(f"{threads} threads", expected="1 or more, or None for every usable core")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _open_onnx(path, device, threads, runtime)
    if suffix in (".plan", ".engine"):
        if runtime not in (None, "tensorrt"):
            raise DeviceError(f"runtime {runtime!r} for the plan {path}", expected="tensorrt")
        from stylesdk.backends.tensorrt import TensorRTBackend

        return TensorRTBackend(path, device=device)
    raise ModelFileError(
        f"{path}, suffix {suffix or 'none'}",
        expected="a bundled style's name, .onnx, .plan or .engine",
        do="`stylesdk styles` lists the bundled styles",
    )


def _open_onnx(path: Path, device: str, threads: int | None, asked: str | None) -> Backend:
    if device not in DEVICES:
        raise DeviceError(f"device {device!r}", expected=f"one of {', '.join(DEVICES)}")
    runtime = asked or runtime_for(device)[0]
    if runtime == "tensorrt":
        from stylesdk.engines import EngineBackend

        try:
            return EngineBackend(path, device=device, threads=threads, required=bool(asked))
        except (DeviceError, MissingExtraError) as error:
            if asked or device != "auto":
                raise
            warnings.warn(f"{error}\nNo TensorRT plan: onnxruntime runs {path.name}.", stacklevel=4)
            runtime = "onnxruntime"
    if runtime == "openvino":
        from stylesdk.backends.openvino import OpenVINOBackend

        return OpenVINOBackend(path, device=device, threads=threads)
    if runtime in ("onnxruntime", "onnxruntime-tensorrt"):
        from stylesdk.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(path, device=device, threads=threads, tensorrt=runtime != "onnxruntime")
    raise DeviceError(
        f"runtime {runtime!r} for {path}", expected="tensorrt, onnxruntime-tensorrt, onnxruntime or openvino"
    )


def runtime_for(device: str) -> tuple[str, str]:
    """The runtime that ONNX files get on ``device``, and why that one and no faster one.

    Warns where OpenVINO would be the one, and is installed and does not work.
    """
    from stylesdk.engines import why_not

    gpu = device in ("auto", "cuda") and not cuda_usable()
    no_plans = why_not() if gpu else ""
    if gpu and not no_plans:
        return "tensorrt", "TensorRT and a CUDA device are usable; onnxruntime serves until the plan is built"
    faster = f"; TensorRT, the fastest on GPUs, cannot be used: {no_plans}" if gpu else ""
    if device == "cuda":
        return "onnxruntime", f"CUDA was asked for{faster}"
    if gpu and installed("onnxruntime-gpu"):
        return "onnxruntime", f"onnxruntime-gpu is installed and a CUDA device is usable{faster}"
    runtime, reason = _runtime_for_cpu()
    return runtime, f"{reason}{faster}"


def _runtime_for_cpu() -> tuple[str, str]:
    if not installed("openvino"):
        return "onnxruntime", "OpenVINO, faster on CPUs, is not installed: python -m pip install 'stylesdk[openvino]'"
    from stylesdk.backends.openvino import REINSTALL, inference_precision

    try:
        precision, why = inference_precision()
    except (MissingExtraError, DeviceError) as error:
        warnings.warn(f"{error}\nonnxruntime, slower on CPUs, runs instead.", stacklevel=6)
        return "onnxruntime", f"{str(error).splitlines()[0].removeprefix('got: ')}; to mend it: {REINSTALL}"
    return "openvino", f"OpenVINO is installed, and is the fastest on CPUs; {precision}: {why}"


def installed(package: str) -> str:
    """Version of a distribution, "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
