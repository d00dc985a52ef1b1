"""Backends: one narrow seam between the SDK and the runtimes.

A backend takes frames that ``frames.checked`` has passed, in a size that it declares, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from stylesdk.errors import ModelFileError
from stylesdk.frames import Frame
from stylesdk.manifest import Manifest
from stylesdk.mix import Weights


class Backend(Protocol):
    """What a runtime must do."""

    name: str  # what really runs: "onnxruntime (CPU)", "tensorrt_rtx 1.7 (NVIDIA …)"
    manifest: Manifest | None  # None for a plan without its sidecar

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) in which a frame of ``size`` must come; ``size`` itself where any will do."""

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        """Style one BGR uint8 (H, W, 3) frame; the result is the caller's to keep.

        ``style`` is float32 (S,) with sum 1 for a model of S > 1 styles, and None for a model of one.
        """

    def close(self) -> None:
        """Free everything. Called exactly once; nothing is called after it."""


def open_backend(path: Path, device: str, threads: int | None) -> Backend:
    """Open a model file by its suffix: ``.onnx`` on onnxruntime, ``.plan`` and ``.engine`` on TensorRT.

    Runtimes are imported here and nowhere else, when they are needed.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from stylesdk.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(path, device=device, threads=threads)
    if suffix in (".plan", ".engine"):
        from stylesdk.backends.tensorrt import TensorRTBackend

        return TensorRTBackend(path, device=device)
    raise ModelFileError(
        f"{path}, suffix {suffix or 'none'}",
        expected="a bundled style's name, .onnx, .plan or .engine",
        do="`stylesdk styles` lists the bundled styles",
    )
