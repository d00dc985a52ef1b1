"""CUDA graphs: work that is queued on a stream once, and launched again and again as one thing.

pycuda has no API for them, so the driver is called through ctypes, on the stream's handle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from stylesdk.gpu.driver import driver_library

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile is none of our business


class Graph:
    """What ``enqueue`` queues on a stream, captured.

    Addresses, sizes and settings are those of the moment of capture; what lies at the addresses may change. Like
    everything here it wants the context current.

    Args:
        stream: handle of the stream; nothing else may be queued on it during the capture.
        enqueue: queues the work; returns whether it could.

    Raises:
        OSError: the driver refuses, or ``enqueue`` did, as some work cannot be captured; the stream is as before.
    """

    def __init__(self, stream: int, enqueue: Callable[[], bool]) -> None:
        self._cuda = driver_library()
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        captured = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)
        try:
            done = enqueue()
        finally:
            # A capture must be ended before the stream can do anything else.
            status = self._cuda.cuStreamEndCapture(self._stream, ctypes.byref(captured))
        try:
            if status or not done or not captured:
                raise OSError(f"the work cannot be captured (CUDA error {status})")
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), captured, ctypes.c_ulonglong(0))
        finally:
            if captured:
                self._cuda.cuGraphDestroy(captured)

    def launch(self) -> bool:
        """Queue the work on the stream; returns whether the driver took it."""
        return bool(self._cuda.cuGraphLaunch(self._executable, self._stream) == 0)

    def close(self) -> None:
        """Forget the graph. May be called twice."""
        executable, self._executable = self._executable, ctypes.c_void_p()
        if executable:
            self._cuda.cuGraphExecDestroy(executable)

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self._cuda, name)(*arguments):
            raise OSError(f"{name} failed (CUDA error {status})")
