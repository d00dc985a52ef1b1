"""TensorRT: plans of TensorRT 10 and 11 and of TensorRT for RTX, on one code path."""

from __future__ import annotations

import importlib
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylesdk.backends.plan_file import (
    COPY_AGAIN,
    check_gpu,
    check_version,
    installed_version,
    read_plan,
    rebuild_line,
)
from stylesdk.errors import ClosedError, DeviceError, EngineMismatchError, MissingExtraError, ModelFileError
from stylesdk.frames import Frame
from stylesdk.gpu.device import cuda_usable, open_device
from stylesdk.manifest import Manifest
from stylesdk.mix import Weights, check_style_input

EXTRAS = {"tensorrt_rtx": "rtx", "tensorrt": "tensorrt"}  # flavour, which is the package too -> extra
_TENSORS = {"frame": ("INPUT", "UINT8"), "strength": ("INPUT", "FLOAT"), "styled": ("OUTPUT", "UINT8")}
_ON_CPU = "run an .onnx model on the CPU, or open the plan on a machine whose nvidia-smi lists the GPU"


class TensorRTBackend:
    """One TensorRT engine, with buffers for its largest frame.

    Args:
        path: a plan in the frame contract, with its sidecar ``PATH.json`` beside it.
        device: ``auto`` or ``cuda``; a plan runs on nothing else.

    Raises:
        ModelFileError: no plan, truncated, damaged, or not in the frame contract.
        EngineMismatchError: built for another TensorRT or GPU.
        MissingExtraError: TensorRT or pycuda is not installed.
        DeviceError: no GPU, or not enough memory on it.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        data, self.manifest, flavour = read_plan(path)
        if device not in ("auto", "cuda"):
            raise DeviceError(f"device {device!r}", expected="auto or cuda, for a TensorRT plan", do=_ON_CPU)
        check_version(path, self.manifest, installed_version(flavour))
        if reason := cuda_usable():
            raise DeviceError(reason, expected="an NVIDIA GPU, for a TensorRT plan", do=_ON_CPU)
        trt = import_flavour(flavour)
        check_version(path, self.manifest, trt.__version__)
        self._host: dict[str, NDArray[Any]] = {}
        self._address: dict[str, int] = {}
        self._size: tuple[int, int] | None = None  # what the context is set to
        self._device = open_device()
        self.name = f"{flavour} {trt.__version__} ({self._device.name})"
        try:
            check_gpu(path, self.manifest, self._device)
            self._open_engine(trt, path, data)
            self._allocate(path)
        except BaseException:
            self.close()
            raise

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (min(max(s, low), high) for s, low, high in zip(size, self._min, self._max, strict=True))
        return height, width

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        device, host, address, count = self._device, self._host, self._address, frame.size
        with device.current():
            self._set_size((frame.shape[0], frame.shape[1]))
            host["frame"][:count] = frame.reshape(-1)
            host["strength"][0] = strength
            device.upload(address["frame"], host["frame"][:count])
            device.upload(address["strength"], host["strength"])
            if style is not None:
                host["style"][:] = style
                device.upload(address["style"], host["style"])
            if not self._context.execute_async_v3(device.stream):
                raise DeviceError(
                    f"{self.name} failed on a frame: {self._logger.last_error()}", expected="a styled frame"
                )
            device.download(host["styled"][:count], address["styled"])
            device.synchronize()
        styled: Frame = host["styled"][:count].reshape(frame.shape).copy()
        return styled

    def close(self) -> None:
        # A device that ran out of memory is closed already, one that failed cannot be made current.
        with suppress(ClosedError, DeviceError), self._device.current():
            self._drop_engine()
        self._drop_engine()
        self._device.close()

    def _drop_engine(self) -> None:
        # In this order: each lives on the next one's memory.
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None

    def _open_engine(self, trt: Any, path: Path, data: bytes) -> None:
        self._logger = collecting_logger(trt)
        with self._device.current():
            try:
                self._runtime = trt.Runtime(self._logger)
            except TypeError as error:  # what the bindings make of a null pointer
                raise DeviceError(f"TensorRT does not start: {self._logger.last_error()}") from error
            self._engine = self._runtime.deserialize_cuda_engine(data)
            if self._engine is None:
                raise EngineMismatchError(
                    f"{path}, which {self.name} refuses: {self._logger.last_error()}",
                    expected="a plan built by this TensorRT for this GPU",
                    do=rebuild_line(self.manifest),
                )
            self._styles = _checked_styles(path, self._engine, self.manifest)
            self._min, self._max = _frame_sizes(self._engine)
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceError(
                f"no execution context on {self.name}: {self._logger.last_error()}",
                expected="memory for the engine",
                do="close other programs on the GPU, or export a smaller --size",
            )

    def _allocate(self, path: Path) -> None:
        """Buffers, once, for the largest frame."""
        pixels = self._max[0] * self._max[1] * 3
        self._host = {
            "frame": self._device.pinned((pixels,), np.uint8),
            "strength": self._device.pinned((1,), np.float32),
            "styled": self._device.pinned((pixels,), np.uint8),
        }
        if self._styles > 1:
            self._host["style"] = self._device.pinned((self._styles,), np.float32)
        self._address = {name: self._device.allocate(array.nbytes) for name, array in self._host.items()}
        with self._device.current():
            bound = [self._context.set_tensor_address(*item) for item in self._address.items()]
            self._set_size(self._max)
            styled = tuple(self._context.get_tensor_shape("styled"))
        # A larger result would be written beyond the end of its buffer.
        if not all(bound) or styled != (1, *self._max, 3):
            raise ModelFileError(
                f"{path}, whose result is {styled} for a frame of (1, {self._max[0]}, {self._max[1]}, 3)",
                expected="a result of the frame's size",
                do=COPY_AGAIN,
            )

    def _set_size(self, size: tuple[int, int]) -> None:
        if size == self._size:
            return
        if not self._context.set_input_shape("frame", (1, *size, 3)):
            raise DeviceError(
                f"a frame of {size}, refused: {self._logger.last_error()}",
                expected=f"{self._min} to {self._max}",
            )
        self._size = size


def import_flavour(flavour: str) -> Any:
    """The package ``tensorrt_rtx`` or ``tensorrt``. Raises MissingExtraError."""
    try:
        return importlib.import_module(flavour)
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        raise MissingExtraError(flavour, EXTRAS[flavour], "TensorRT plans") from error


def collecting_logger(trt: Any) -> Any:
    """A logger for TensorRT, which reports failures only as None and False; ``last_error()`` says why."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, msg: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(msg.strip())

        def last_error(self) -> str:
            """The newest error, "no reason given" without one."""
            # Without a GPU each failure is followed by one more line, of no meaning.
            telling = [text for text in self.errors if "cudaError 35" not in text]
            return (telling or list(self.errors) or ["no reason given"])[-1]

    return Logger()


def _checked_styles(path: Path, engine: Any, manifest: Manifest | None) -> int:
    """How many styles an engine mixes. Raises ModelFileError for one that is not in the frame contract."""
    tensors = _tensors(engine)
    mixes = "style" in tensors
    expected = _TENSORS | ({"style": ("INPUT", "FLOAT")} if mixes else {})
    if tensors != expected:
        raise ModelFileError(
            f"{path}, a plan with the tensors {tensors}", expected=f"{expected}", do="export a stylesdk model"
        )
    check_style_input(path, manifest, tuple(engine.get_tensor_shape("style")) if mixes else None)
    return len(manifest.styles) if manifest else 1


def _tensors(engine: Any) -> dict[str, tuple[str, str]]:
    """Direction and type of each tensor, by name."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {n: (engine.get_tensor_mode(n).name, engine.get_tensor_dtype(n).name) for n in names}


def _frame_sizes(engine: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest (height, width) that the engine takes."""
    shape = tuple(engine.get_tensor_shape("frame"))
    low = high = shape
    if -1 in shape:
        low, _, high = (tuple(s) for s in engine.get_tensor_profile_shape("frame", 0))
    return (low[1], low[2]), (high[1], high[2])
