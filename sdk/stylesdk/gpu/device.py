"""One engine's share of a GPU: device memory, page-locked memory, two streams, events.

Everything lives in the device's primary context, which torch, onnxruntime and TensorRT use too, so that
addresses and streams can be exchanged with them. The context is made current around each operation and
taken away again: a Device may be opened, used and closed in different threads, one at a time.

Copies have a stream of their own, so that a frame can travel while another is computed; events order the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stylesdk.errors import ClosedError, DeviceError, MissingExtraError
from stylesdk.gpu.context import primary_context
from stylesdk.gpu.driver import cuda_usable, driver_release
from stylesdk.gpu.kernels import Kernels, load_kernels

_DO = "update the NVIDIA driver (nvidia-smi must list the GPU), or run an .onnx model on the CPU"


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


# CU_STREAM_NON_BLOCKING: no order with the legacy stream, on which torch works, and whose use would break a capture.
_NON_BLOCKING = 1


class Device:
    """A GPU, and what one engine holds of it: everything allocated here is freed by ``close``.

    Args:
        cuda: the module ``pycuda.driver``, initialised.
        index: number of the GPU.
    """

    def __init__(self, cuda: Any, index: int) -> None:
        self._cuda, self._index = cuda, index
        self._device = cuda.Device(index)
        self._primary = primary_context(cuda, index)
        self._context: Any = self._primary  # None when closed
        self._allocations: list[Any] = []
        self._compute: Any = None
        self._copies: Any = None
        with self.current():
            self._compute, self._copies = cuda.Stream(_NON_BLOCKING), cuda.Stream(_NON_BLOCKING)

    @property
    def index(self) -> int:
        """Number of the GPU."""
        return self._index

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
        """The driver's version, such as ``580.65.06``; the CUDA that it runs where the system does not tell."""
        return driver_release()

    @property
    def compute(self) -> int:
        """Handle of the stream that computes, as TensorRT takes it."""
        return int(self._compute.handle)

    @property
    def copies(self) -> int:
        """Handle of the stream that copies."""
        return int(self._copies.handle)

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

    @contextmanager
    def cleanup(self) -> Iterator[None]:
        """Make the context current to destroy what lives in it, also after ``close``.

        Errors of CUDA are swallowed: a device that has failed refuses all of it, and then nothing is left to free.
        """
        with suppress(self._cuda.Error):
            self._primary.push()
            try:
                yield
            finally:
                self._primary.pop()

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A page-locked host array, not initialised; it must not be touched after ``close``."""
        array = self.lendable(shape, dtype)
        self._allocations.append(array.base)
        return array

    def lendable(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A page-locked host array that ``close`` leaves alone; ``free`` it."""
        with self.current():
            array: NDArray[Any] = self._cuda.pagelocked_empty(shape, np.dtype(dtype))
            return array

    def allocate(self, count: int) -> int:
        """Address of ``count`` bytes of device memory."""
        self._allocations.append(self.lendable_memory(count))
        return int(self._allocations[-1])

    def lendable_memory(self, count: int) -> Any:
        """``count`` bytes of device memory that ``close`` leaves alone; int() is the address; ``free`` it."""
        with self.current():
            return self._cuda.mem_alloc(count)

    def free(self, lendable: Any) -> None:
        """Free what ``lendable`` or ``lendable_memory`` gave, on any thread, also after ``close``."""
        with self.cleanup():
            owner: Any = lendable.base if isinstance(lendable, np.ndarray) else lendable
            owner.free()

    def kernels(self) -> Kernels | None:
        """Our own kernels, None where they were not built; to be dropped inside ``cleanup``.

        Raises:
            DeviceError: they were not built for this GPU.
        """
        with self.current():
            return load_kernels(self._cuda)

    def event(self) -> Any:
        """An event for ``record`` and ``wait``; to be dropped inside ``cleanup``."""
        with self.current():
            return self._cuda.Event()

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Queue a copy of a page-locked array to the device; leave the array alone until it is done."""
        with self.current():
            self._cuda.memcpy_htod_async(address, host, self._copies)

    def download(self, host: NDArray[Any], address: int) -> None:
        """Queue a copy from the device into a page-locked array; it is filled once it is done."""
        with self.current():
            self._cuda.memcpy_dtoh_async(host, address, self._copies)

    def compute_after_copies(self, event: Any) -> None:
        """What is queued on ``compute`` from here on waits for what is queued on ``copies`` until here."""
        with self.current():
            self._compute.wait_for_event(event.record(self._copies))

    def copies_after(self, event: Any) -> None:
        """What is queued on ``copies`` from here on waits for ``event``."""
        with self.current():
            self._copies.wait_for_event(event)

    def on_compute(self, queue: Callable[[Any], None]) -> None:
        """``queue`` puts work on the stream that computes, a ``pycuda.driver.Stream``, which it is given."""
        with self.current():
            queue(self._compute)

    def finish_copies(self, event: Any) -> None:
        """Wait until what is queued on ``copies`` is done; other threads run meanwhile."""
        with self.current():
            event.record(self._copies).synchronize()

    def record(self, event: Any) -> None:
        """Record ``event`` on ``compute``."""
        with self.current():
            event.record(self._compute)

    def synchronize(self) -> None:
        """Wait until everything queued on both streams is done; other threads run meanwhile."""
        with self.current():
            self._compute.synchronize()
            self._copies.synchronize()

    def duplicate(self, target: int, source: int, count: int) -> None:
        """Queue a copy of ``count`` bytes within the GPU, on ``compute``."""
        with self.current():
            self._cuda.memcpy_dtod_async(target, source, count, self._compute)

    def timed(self, work: Callable[[], object], count: int, copies: bool = False) -> list[float]:
        """Milliseconds of GPU time of each of ``count`` times ``work``, queued on ``compute``, or on ``copies``."""
        with self.current():
            stream = self._copies if copies else self._compute
            start, end = self._cuda.Event(), self._cuda.Event()
            found = []
            for _ in range(count):
                start.record(stream)
                work()
                end.record(stream).synchronize()
                found.append(float(start.time_till(end)))
            del start, end
            return found

    def close(self) -> None:
        """Free all memory and the streams. May be called twice."""
        context, self._context = self._context, None
        if context is None:
            return
        with self.cleanup():
            # Streams have no other way to be destroyed, and want their context current.
            self._compute = self._copies = None
            while self._allocations:
                self._allocations.pop().free()
