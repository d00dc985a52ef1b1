"""An onnxruntime session on a GPU for frames of one size: its buffers, its stream, its CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylesdk.errors import MissingExtraError
from stylesdk.frames import Frame
from stylesdk.gpu.device import Device, open_device
from stylesdk.latency import timed

Feeds = dict[str, NDArray[Any]]  # input -> array, as the graph takes it


class SizedSession:
    """A session, and what it holds on the GPU. It frees itself when a run fails.

    Args:
        ort: the module ``onnxruntime``.
        open_session: opens the session on the stream of that handle, None for one of its own.
        feeds: a frame of the size, and the other inputs.
        graph: whether the session replays a CUDA graph. It captures that in its first run in each thread.
    """

    def __init__(self, ort: Any, open_session: Callable[[int | None], Any], feeds: Feeds, *, graph: bool) -> None:
        self.graph = graph
        self._captured_by: int | None = None  # thread
        self._options: Any = None
        self._buffers: Any = None
        self._session: Any = None
        self._binding: Any = None
        self._device: Device | None = None
        try:
            with gate.shared():
                self._device = _own_device()
                # Memory first: a Device that has none for the buffers closes its stream.
                if self._device:
                    self._buffers = _PinnedBuffers(self._device, feeds)
                    self._options = ort.RunOptions()
                    # What comes before and after is queued on the same stream, and waited for together.
                    self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
                else:
                    self._buffers = _OrtBuffers(ort, feeds)
                self._session = open_session(self._device.compute if self._device else None)
                self._binding = self._session.io_binding()
                self._buffers.bind(self._binding)
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Feeds) -> Frame:
        """The graph's ``styled`` as BGR uint8 (H, W, 3), the caller's to keep."""
        try:
            with self._turn():
                self._buffers.upload(feeds)
                self._launch()
                styled: Frame = self._buffers.download()
        except BaseException:
            self.close()
            raise
        return styled

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of ``count`` runs on the latest frame, without copies."""
        with self._turn():
            self._launch()
        with gate.shared():
            if self._device:
                return self._device.timed(self._launch, count)
            return timed(self._launch, count)  # without options, it waits for the GPU

    def close(self) -> None:
        """Free everything. May be called twice."""
        with gate.shared():
            # In this order: each lives on the next one's memory or stream.
            self._binding = None
            self._session = None
            if self._device:
                with self._device.cleanup():
                    self._buffers = None
                self._device.close()
            self._buffers = None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        thread = threading.get_ident()
        captures = self.graph and thread != self._captured_by
        with gate.alone() if captures else gate.shared():
            yield
        self._captured_by = thread

    def _launch(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)


class _PinnedBuffers:
    """Inputs and output in the device layer's memory; copies have a stream of their own."""

    def __init__(self, device: Device, feeds: Feeds) -> None:
        self._device = device
        arrays = feeds | {"styled": feeds["frame"]}
        self._host = {name: device.pinned(array.shape, array.dtype) for name, array in arrays.items()}
        self._address = {name: device.allocate(array.nbytes) for name, array in arrays.items()}
        self._uploaded, self._computed, self._delivered = (device.event() for _ in range(3))

    def bind(self, binding: Any) -> None:
        for name, host in self._host.items():
            bind = binding.bind_output if name == "styled" else binding.bind_input
            bind(name, "cuda", 0, host.dtype.type, list(host.shape), self._address[name])

    def upload(self, feeds: Feeds) -> None:
        for name, array in feeds.items():
            np.copyto(self._host[name], array)
            self._device.upload(self._address[name], self._host[name])
        self._device.compute_after_copies(self._uploaded)

    def download(self) -> Frame:
        self._device.record(self._computed)
        self._device.copies_after(self._computed)
        self._device.download(self._host["styled"], self._address["styled"])
        self._device.finish_copies(self._delivered)
        styled: Frame = self._host["styled"][0].copy()
        return styled


class _OrtBuffers:
    """Inputs and output in onnxruntime's memory, where pycuda is not installed; every copy is waited for."""

    def __init__(self, ort: Any, feeds: Feeds) -> None:
        self._values = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), array.dtype.type, "cuda", 0)
            for name, array in (feeds | {"styled": feeds["frame"]}).items()
        }

    def bind(self, binding: Any) -> None:
        for name, value in self._values.items():
            bind = binding.bind_ortvalue_output if name == "styled" else binding.bind_ortvalue_input
            bind(name, value)

    def upload(self, feeds: Feeds) -> None:
        for name, array in feeds.items():
            self._values[name].update_inplace(array)

    def download(self) -> Frame:
        styled: Frame = self._values["styled"].numpy()[0]  # a copy
        return styled


class Gate:
    """Any number of threads use the GPU, or one captures a CUDA graph.

    onnxruntime captures in CUDA's global mode: a call of another thread that allocates or waits meanwhile fails,
    and breaks the capture too. Never enter twice in one thread.
    """

    def __init__(self) -> None:
        self._entrance = threading.Lock()
        self._changed = threading.Condition()
        self._users = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._entrance, self._changed:
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._entrance:
            with self._changed:
                self._changed.wait_for(lambda: not self._users)
            yield


gate = Gate()  # of the process: every use of CUDA through onnxruntime goes through it


def _own_device() -> Device | None:
    """Memory and a stream of our own, None where pycuda is not installed."""
    try:
        return open_device()
    except MissingExtraError:
        return None
