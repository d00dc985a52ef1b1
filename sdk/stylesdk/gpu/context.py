"""The primary context of a GPU, which torch, onnxruntime and TensorRT use too."""

from __future__ import annotations

import atexit
import threading
from typing import Any

_contexts: dict[int, Any] = {}  # device index -> pycuda's primary context
_lock = threading.Lock()


def primary_context(cuda: Any, index: int) -> Any:
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
