"""One engine's share of a GPU: device memory, page-locked memory, a stream, events.

Everything lives in the device's primary context, which torch, onnxruntime and TensorRT use too, so that
addresses and streams can be exchanged with them. The context is made current around each operation and
taken away again: a Device may be opened, used and closed in different threads, one at a time.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stylesdk.errors import ClosedError, DeviceError, MissingExtraError

_DO = "update the NVIDIA driver (nvidia-smi must list the GPU), or run an .onnx model on the CPU"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE

_contexts: dict[int, Any] = {}  # device index -> pycuda's primary context
_lock = threading.Lock()


def cuda_usable() -> str:
    """Why CUDA cannot be used here, in words; an empty string where it can.

    To be asked before any import of ``tensorrt`` or ``pycuda.driver``: without a driver the former may
    crash the process, and the latter fails with a misleading warning.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return f"no NVIDIA driver ({library} cannot be loaded)"
    count = ctypes.c_int(0)
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status == _NO_DEVICE or (not status and not count.value):
        return "an NVIDIA driver, but no GPU that it can use"
    if status:
        return f"an NVIDIA driver that does not start (CUDA error {status})"
    return ""


def driver_cuda_version() -> str:
    """Newest CUDA version that the driver runs, such as ``13.0``. Only where ``cuda_usable`` says nothing."""
    cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    version = ctypes.c_int(0)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def open_device(index: int = 0) -> Device:
    """The GPU of number ``index``.

    Raises:
        DeviceError: no driver, no such device, or no memory for its context.
        MissingExtraError: pycuda is not installed.
    """
    if reason := cuda_usable():
        raise DeviceError(reason, expected="an NVIDIA GPU and its driver", do=_DO)
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise MissingExtraError("pycuda", "rtx", "running TensorRT plans") from error
    try:
        cuda.init()
        return Device(cuda, index)
    except cuda.Error as error:
        raise DeviceError(f"device {index}: {error}", expected="a usable GPU", do=_DO) from error


class Device:
    """A GPU, and what one engine holds of it: everything allocated here is freed by ``close``.

    Args:
        cuda: the module ``pycuda.driver``, initialised.
        index: number of the GPU.
    """

    def __init__(self, cuda: Any, index: int) -> None:
        self._cuda = cuda
        self._device = cuda.Device(index)
        self._context: Any = _primary_context(cuda, index)
        self._allocations: list[Any] = []
        self._stream: Any = None
        with self.current():
            self._stream = cuda.Stream()

    @property
    def name(self) -> str:
        """As the driver calls it, such as ``NVIDIA GeForce RTX 4090``."""
        return str(self._device.name())

    @property
    def compute_capability(self) -> str:
        """Such as ``8.9``."""
        return ".".join(map(str, self._device.compute_capability()))

    @property
    def driver(self) -> str:
        """Newest CUDA version that the driver runs, such as ``13.0``."""
        return driver_cuda_version()

    @property
    def stream(self) -> int:
        """Handle of the one stream, as TensorRT takes it."""
        return int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current on this thread; may be nested. Wrap calls of TensorRT in it.

        Raises:
            ClosedError: after ``close``.
            DeviceError: CUDA failed in the body. Where it was for want of memory, the Device is closed.
        """
        context = self._context
        if context is None:
            raise ClosedError("use of a closed Device", do="open a new one")
        try:
            context.push()
            try:
                yield
            finally:
                context.pop()
        except self._cuda.MemoryError as error:
            self.close()
            raise DeviceError(
                f"{self.name} is out of memory ({error})",
                expected="memory for the engine and its frames",
                do="close other programs on the GPU, or export a smaller --size",
            ) from error
        except self._cuda.Error as error:
            raise DeviceError(f"{self.name} failed: {error}", expected="a healthy GPU", do=_DO) from error

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A page-locked host array, not initialised; it must not be touched after ``close``."""
        with self.current():
            array: NDArray[Any] = self._cuda.pagelocked_empty(shape, np.dtype(dtype))
            self._allocations.append(array.base)
            return array

    def allocate(self, count: int) -> int:
        """Address of ``count`` bytes of device memory."""
        with self.current():
            self._allocations.append(self._cuda.mem_alloc(count))
            return int(self._allocations[-1])

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Queue a copy of a page-locked array to the device; leave the array alone until ``synchronize``."""
        with self.current():
            self._cuda.memcpy_htod_async(address, host, self._stream)

    def download(self, host: NDArray[Any], address: int) -> None:
        """Queue a copy from the device into a page-locked array; it is filled after ``synchronize``."""
        with self.current():
            self._cuda.memcpy_dtoh_async(host, address, self._stream)

    def synchronize(self) -> None:
        """Wait until everything queued on the stream is done; other threads run meanwhile."""
        with self.current():
            self._stream.synchronize()

    def mark(self) -> Any:
        """Queue an event on the stream, for ``milliseconds``."""
        with self.current():
            return self._cuda.Event().record(self._stream)

    def milliseconds(self, start: Any, end: Any) -> float:
        """GPU time between two marks; waits for the second."""
        with self.current():
            end.synchronize()
            return float(start.time_till(end))

    def close(self) -> None:
        """Free all memory and the stream. May be called twice."""
        context, self._context = self._context, None
        if context is None:
            return
        # A device that has failed refuses all of this, and then nothing is left to free.
        with suppress(self._cuda.Error):
            context.push()
            try:
                self._stream = None  # has no other way to be destroyed, and wants its context current
                while self._allocations:
                    self._allocations.pop().free()
            finally:
                context.pop()


def _primary_context(cuda: Any, index: int) -> Any:
    """The device's primary context, retained once a process, as torch and the CUDA runtime do.

    Giving it back with each Device is not safe: pycuda leaves the context current on the thread that
    detaches it, and the next user of CUDA on that thread would meet a destroyed context.
    """
    with _lock:
        if index not in _contexts:
            context = _contexts[index] = cuda.Device(index).retain_primary_context()
            atexit.register(_release, context)
        return _contexts[index]


def _release(context: Any) -> None:
    context.push()  # without this, pycuda leaks a context that another thread retained
    context.detach()
