"""onnxruntime: any machine with a CPU, and NVIDIA GPUs where onnxruntime-gpu is installed."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stylesdk.backends.onnxruntime_gpu import GpuSessions, out_of_memory
from stylesdk.backends.onnxruntime_options import CUDA, TENSORRT
from stylesdk.backends.onnxruntime_sized import Feeds
from stylesdk.errors import DeviceError, MissingExtraError, ModelFileError, StyleSDKError
from stylesdk.frames import Frame
from stylesdk.latency import timed, usable_cores
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.mix import Weights, check_style_input
from stylesdk.onnx_file import manifest_from_onnx

_CPU = "CPUExecutionProvider"
_NAMES = {_CPU: "CPU", CUDA: "CUDA", TENSORRT: "TensorRT"}


class OnnxRuntimeBackend:
    """A model on onnxruntime: one session on the CPU, one for each frame size on a GPU.

    Args:
        path: an ONNX file with a stylesdk manifest.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where it is installed and works, else the CPU, with a warning
            where it is installed and does not work.
        threads: of the CPU, None for every usable core.
        tensorrt: run on onnxruntime's TensorRT provider, and on nothing else.

    Raises:
        ModelFileError: no stylesdk model, damaged, or refused by onnxruntime.
        DeviceError: ``device`` or TensorRT cannot be had.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, *, device: str = "auto", threads: int | None = None, tensorrt: bool = False) -> None:
        data = read_model_file(path)
        self.manifest: Manifest | None = manifest_from_onnx(data, str(path))
        ort = _import_onnxruntime(device)
        provider, why = _provider(ort, device, tensorrt), ""
        try:
            self._runner = self._open(ort, path, data, provider, threads)
        except DeviceError as error:
            if device != "auto" or tensorrt:
                raise
            why = f": {_NAMES[provider]} does not work, {str(error).splitlines()[0].removeprefix('got: ')}"
            _warn(f"onnxruntime runs on the CPU{why}")
            provider = _CPU
            self._runner = _CpuSession(ort, path, data, threads)
        check_style_input(path, self.manifest, self._runner.inputs.get("style"))
        self._latest: Feeds | None = None
        self.name = f"onnxruntime {ort.__version__} ({_NAMES[provider]}{why})"

    def _open(self, ort: Any, path: Path, data: bytes, provider: str, threads: int | None) -> _Runner:
        if provider == _CPU:
            return _CpuSession(ort, path, data, threads)
        half = self.manifest is not None and self.manifest.precision == "fp16"
        try:
            return GpuSessions(ort, data, provider, threads=threads, half=half)
        except StyleSDKError:
            raise
        except Exception as error:  # onnxruntime raises its own classes for every kind of bad graph or device
            _CpuSession(ort, path, data, threads)  # which says so where the file is at fault
            raise DeviceError(
                f"onnxruntime {ort.__version__}: {error}",
                expected=provider,
                do="`stylesdk doctor` tells what is missing; device='cpu' runs on the CPU",
            ) from error

    @property
    def cuda_graph(self) -> bool | None:
        """Whether the latest frame was replayed from a CUDA graph; None on the CPU, where there is none."""
        return self._runner.cuda_graph

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        feeds: Feeds = {"frame": frame[None], "strength": np.array([strength], np.float32)}
        if style is not None:
            feeds["style"] = style
        self._latest = None
        try:
            styled = self._runner.run(feeds)
        except StyleSDKError:
            raise
        except Exception as error:  # onnxruntime's own classes again
            do = "try a larger frame; if that fails too, export the model again"
            if out_of_memory(error):
                do = "close other programs on the device, or style smaller frames; the next frame starts afresh"
            raise DeviceError(
                f"{self.name} failed on a frame of {frame.shape}: {error}", expected="a styled frame", do=do
            ) from error
        self._latest = feeds
        return styled

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of ``count`` inferences on the latest frame's buffers, without copies; [] before one.

        By CUDA events on a GPU with pycuda, else by the clock, around runs that are waited for.
        """
        return [] if self._latest is None else self._runner.run_in_place(self._latest, count)

    def close(self) -> None:
        self._latest = None
        self._runner.close()


class _Runner(Protocol):
    """What runs a graph: name -> array in, the styled frame out."""

    inputs: dict[str, Any]  # name -> shape

    @property
    def cuda_graph(self) -> bool | None: ...
    def run(self, feeds: Feeds) -> Frame: ...
    def run_in_place(self, feeds: Feeds, count: int) -> list[float]: ...
    def close(self) -> None: ...


class _CpuSession:
    """One session on the CPU, for frames of any size."""

    cuda_graph = None

    def __init__(self, ort: Any, path: Path, data: bytes, threads: int | None) -> None:
        options = ort.SessionOptions()
        # As many threads as usable cores: onnxruntime's own default ignores a container's limit.
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        try:
            self._session: Any = ort.InferenceSession(data, options, providers=[_CPU], enable_fallback=0)
        except Exception as error:  # onnxruntime raises its own classes for every kind of bad graph
            raise ModelFileError(
                f"{path}, which onnxruntime {ort.__version__} refuses: {error}",
                do="export it again with `stylesdk export`",
            ) from error
        self.inputs = {tensor.name: tensor.shape for tensor in self._session.get_inputs()}

    def run(self, feeds: Feeds) -> Frame:
        styled: Frame = self._session.run(["styled"], feeds)[0][0]
        return styled

    def run_in_place(self, feeds: Feeds, count: int) -> list[float]:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output("styled", "cpu")
        return timed(lambda: self._session.run_with_iobinding(binding), count)

    def close(self) -> None:
        self._session = None


@cache
def _warn(text: str) -> None:
    """Once a process, whatever the filters say."""
    warnings.warn(text, stacklevel=6)  # the line that made the Stylizer


def _import_onnxruntime(device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        if device == "cuda":
            raise MissingExtraError("onnxruntime-gpu", "gpu", "running ONNX models on a GPU") from error
        raise MissingExtraError("onnxruntime", "cpu", "running ONNX models") from error
    return onnxruntime


def _provider(ort: Any, device: str, tensorrt: bool) -> str:
    """The provider to ask for. Raises DeviceError where this onnxruntime cannot have it."""
    expected = ("auto", "cuda") if tensorrt else ("auto", "cpu", "cuda")
    if device not in expected:
        raise DeviceError(f"device {device!r}", expected=", ".join(expected))
    available = ort.get_available_providers()
    wanted = TENSORRT if tensorrt else _CPU if device == "cpu" else CUDA
    if wanted in available:
        return wanted
    if device == "auto" and not tensorrt:
        return _CPU
    raise DeviceError(
        f"device {device!r}, but this onnxruntime has only {', '.join(available)}",
        expected=wanted,
        do="python -m pip uninstall -y onnxruntime && python -m pip install 'stylesdk[gpu]'",
    )
