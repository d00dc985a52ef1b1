"""The CUDA driver by itself, through ctypes: what can be asked before anything of CUDA is imported."""

from __future__ import annotations

import ctypes
import sys

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def driver_library() -> ctypes.CDLL:
    """The driver's library. Raises OSError where there is none."""
    return ctypes.CDLL(_LIBRARY)


def cuda_usable() -> str:
    """Why CUDA cannot be used here, in words; an empty string where it can.

    To be asked before any import of ``tensorrt`` or ``pycuda.driver``: without a driver the former may
    crash the process, and the latter fails with a misleading warning.
    """
    try:
        cuda = driver_library()
    except OSError:
        return f"no NVIDIA driver ({_LIBRARY} cannot be loaded)"
    count = ctypes.c_int(0)
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status == _NO_DEVICE or (not status and not count.value):
        return "an NVIDIA driver, but no GPU that it can use"
    if status:
        return f"an NVIDIA driver that does not start (CUDA error {status})"
    return ""


def driver_cuda_version() -> str:
    """Newest CUDA version that the driver runs, such as ``13.0``. Only where ``cuda_usable`` says nothing."""
    version = ctypes.c_int(0)
    driver_library().cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def wait_for_stream(stream: int) -> None:
    """Wait until everything queued on somebody else's stream is done. The context must be current.

    Raises:
        OSError: the driver does not know the stream, or its work failed.
    """
    if status := driver_library().cuStreamSynchronize(ctypes.c_void_p(stream)):
        raise OSError(f"waiting for stream {stream} failed (CUDA error {status})")
