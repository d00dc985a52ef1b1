"""A TensorRT engine from a plan: the package, its logger, what must hold of an engine, its runtime cache."""

from __future__ import annotations

import importlib
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylesdk.backends.plan_file import runtime_cache_of
from stylesdk.errors import DeviceError, MissingExtraError, ModelFileError
from stylesdk.gpu.slot import Slot
from stylesdk.manifest import Manifest
from stylesdk.mix import check_style_input

# Flavour, which is the package too -> extra. The lean runtime runs what TensorRT built for it.
EXTRAS = {"tensorrt_rtx": "rtx", "tensorrt": "tensorrt", "tensorrt_lean": "lean"}
_TENSORS = {"frame": ("INPUT", "UINT8"), "strength": ("INPUT", "FLOAT"), "styled": ("OUTPUT", "UINT8")}


def import_flavour(flavour: str) -> Any:
    """The package ``tensorrt_rtx``, ``tensorrt`` or ``tensorrt_lean``. Raises MissingExtraError."""
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

        def told(self, word: str) -> bool:
            """Whether an error spoke of ``word``."""
            return any(word in text.lower() for text in self.errors)

        def last_error(self) -> str:
            """The newest error, "no reason given" without one."""
            # Without a GPU each failure is followed by one more line, of no meaning.
            telling = [text for text in self.errors if "cudaError 35" not in text]
            return (telling or list(self.errors) or ["no reason given"])[-1]

    return Logger()


def checked_style_length(path: Path, engine: Any, manifest: Manifest | None) -> int:
    """Numbers in an engine's input ``style``, 0 without one. Raises ModelFileError outside the frame contract."""
    tensors = _tensors(engine)
    styled = "style" in tensors
    expected = _TENSORS | ({"style": ("INPUT", "FLOAT")} if styled else {})
    if tensors != expected:
        raise ModelFileError(
            f"{path}, a plan with the tensors {tensors}", expected=f"{expected}", do="export a stylesdk model"
        )
    check_style_input(path, manifest, tuple(engine.get_tensor_shape("style")) if styled else None)
    return manifest.style_length if manifest else 0


def _tensors(engine: Any) -> dict[str, tuple[str, str]]:
    """Direction and type of each tensor, by name."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {n: (engine.get_tensor_mode(n).name, engine.get_tensor_dtype(n).name) for n in names}


def frame_sizes(engine: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest (height, width) that the engine takes."""
    shape = tuple(engine.get_tensor_shape("frame"))
    low = high = shape
    if -1 in shape:
        low, _, high = (tuple(s) for s in engine.get_tensor_profile_shape("frame", 0))
    return (low[1], low[2]), (high[1], high[2])


class Execution:
    """One execution context: an engine with a size and addresses. The device's context must be current.

    Args:
        context: TensorRT's; None where it could not make one.
        stream: handle of the stream that computes.
        name: of the runtime, for errors.
        logger: ``collecting_logger`` of the engine.

    Raises:
        DeviceError: no context.
    """

    def __init__(self, context: Any, stream: int, name: str, logger: Any) -> None:
        if context is None:
            raise DeviceError(
                f"no execution context on {name}: {logger.last_error()}",
                expected="memory for the engine",
                do="close other programs on the GPU, or export a smaller --size",
            )
        self._context, self._stream, self._name, self._logger = context, stream, name, logger
        self._size: tuple[int, int] | None = None
        self._address: dict[str, int] = {}

    def bind(self, size: tuple[int, int], address: dict[str, int]) -> None:
        """Set (height, width) and the tensors' addresses, where they differ from before."""
        if size != self._size and not self._context.set_input_shape("frame", (1, *size, 3)):
            raise DeviceError(f"a frame of {size}, refused by {self._name}: {self._logger.last_error()}")
        self._size = size
        for name, place in address.items():
            if self._address.get(name) != place and not self._context.set_tensor_address(name, place):
                raise DeviceError(f"{self._name} refuses an address for {name}: {self._logger.last_error()}")
        self._address = dict(address)

    def result_shape(self) -> tuple[int, ...]:
        """Shape of ``styled`` for the size that was bound."""
        return tuple(self._context.get_tensor_shape("styled"))

    def enqueue(self) -> bool:
        """Queue one inference; returns whether TensorRT took it."""
        return bool(self._context.execute_async_v3(self._stream))

    def check(self, done: bool) -> None:
        """Raise DeviceError where an inference was not taken."""
        if not done:
            raise DeviceError(f"{self._name} failed on a frame: {self._logger.last_error()}", expected="a styled frame")


@dataclass(frozen=True)
class Lane:
    """What one frame under way has to itself: its memory, and an execution context bound to it."""

    slot: Slot
    execution: Execution


class RuntimeCache:
    """Kernels that TensorRT for RTX compiled for this GPU when the plan first ran, kept beside it as PLAN.cache.

    Opening the plan again then takes milliseconds instead of seconds. Other flavours have none, and the plan runs
    without it where the folder cannot be written.
    """

    def __init__(self, plan: Path) -> None:
        self._path = runtime_cache_of(plan)
        self._cache: Any = None
        self._stored = b""

    def context(self, trt: Any, engine: Any, graphs: bool) -> Any:
        """An execution context; on TensorRT for RTX with the kernels kept, and CUDA graphs where ``graphs``."""
        config = engine.create_runtime_config() if hasattr(engine, "create_runtime_config") else None
        if config is None or not hasattr(config, "create_runtime_cache"):
            return engine.create_execution_context()
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._load()
        config.set_runtime_cache(self._cache)
        strategy = trt.CudaGraphStrategy
        config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if graphs else strategy.DISABLED
        return engine.create_execution_context(config)

    def _load(self) -> None:
        with suppress(OSError):
            stored = self._path.read_bytes()
            # False for kernels of another GPU or driver: they are made again, and stored over these.
            self._stored = stored if self._cache.deserialize(stored) else b""

    def store(self) -> None:
        """Write what was compiled since; nothing where that cannot be."""
        if self._cache is None:
            return
        made = self._cache.serialize()  # None where it cannot
        found = bytes(made) if made is not None else b""
        if not found or found == self._stored:
            return
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        with suppress(OSError):
            part.write_bytes(found)
            part.replace(self._path)
            self._stored = found
        with suppress(OSError):
            part.unlink()

    def forget(self) -> None:
        """Drop the cache's object; it lives on the engine's runtime."""
        self._cache = None
