"""onnxruntime: any machine with a CPU, and CUDA where onnxruntime-gpu is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.errors import DeviceError, MissingExtraError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.latency import timed, usable_cores
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.mix import Weights, check_style_input
from stylesdk.onnx_file import manifest_from_onnx

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeBackend:
    """One onnxruntime session.

    Args:
        path: an ONNX file with a stylesdk manifest.
        device: ``cpu``, ``cuda``, or ``auto`` (CUDA where it is installed and works, else the CPU).
        threads: of the CPU, None for every usable core.
    """

    def __init__(self, path: Path, *, device: str = "auto", threads: int | None = None) -> None:
        data = read_model_file(path)
        self.manifest: Manifest | None = manifest_from_onnx(data, str(path))
        ort = _import_onnxruntime()
        providers = _providers(ort, device)
        options = ort.SessionOptions()
        # As many threads as usable cores: onnxruntime's own default ignores a container's limit.
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        try:
            self._session: Any = ort.InferenceSession(data, options, providers=providers)
        except Exception as error:  # onnxruntime raises its own classes for every kind of bad graph
            raise ModelFileError(
                f"{path}, which onnxruntime {ort.__version__} refuses: {error}",
                do="export it again with `stylesdk export`",
            ) from error
        shapes = {tensor.name: tensor.shape for tensor in self._session.get_inputs()}
        check_style_input(path, self.manifest, shapes.get("style"))
        used = self._session.get_providers()[0]
        if device != "auto" and used != providers[0]:
            # A CUDA provider that cannot load only logs, and runs on the CPU.
            raise DeviceError(
                f"onnxruntime fell back to {used}",
                expected=providers[0],
                do="`stylesdk doctor` tells what is missing; device='cpu' runs on the CPU",
            )
        self._feeds: dict[str, Any] = {}  # of the last frame
        self.name = f"onnxruntime {ort.__version__} ({used.removesuffix('ExecutionProvider')})"

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        feeds = {"frame": frame[None], "strength": np.array([strength], np.float32)}
        if style is not None:
            feeds["style"] = style
        try:
            styled: Frame = self._session.run(["styled"], feeds)[0][0]
        except Exception as error:  # onnxruntime's own classes again
            raise DeviceError(
                f"{self.name} failed on a frame of {frame.shape}: {error}",
                expected="a styled frame",
                do="try a larger frame; if that fails too, export the model again",
            ) from error
        self._feeds = feeds
        return styled

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of ``count`` inferences on the last frame, bound to the session's own memory."""
        if not self._feeds:
            return []
        ort = _import_onnxruntime()
        place = "cuda" if self._session.get_providers()[0] == _PROVIDERS["cuda"] else "cpu"
        binding = self._session.io_binding()
        for name, value in self._feeds.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, place, 0))
        shape = self._feeds["frame"].shape
        styled = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, place, 0)
        binding.bind_ortvalue_output("styled", styled)
        return timed(lambda: self._session.run_with_iobinding(binding), count)

    def close(self) -> None:
        self._session = None
        self._feeds = {}


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu", "running ONNX models") from error
    return onnxruntime


def _providers(ort: Any, device: str) -> list[str]:
    """Providers to ask for, the wanted one first."""
    available = ort.get_available_providers()
    if device == "auto":
        return [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    if device not in _PROVIDERS:
        raise DeviceError(f"device {device!r}", expected="auto, cpu or cuda")
    if _PROVIDERS[device] not in available:
        raise DeviceError(
            f"device {device!r}, but this onnxruntime has only {', '.join(available)}",
            expected=_PROVIDERS[device],
            do="python -m pip uninstall -y onnxruntime && python -m pip install 'stylesdk[gpu]'",
        )
    return [_PROVIDERS[device]]
