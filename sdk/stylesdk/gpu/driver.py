"""The CUDA driver by itself, through ctypes: what can be asked before anything of CUDA is imported."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
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


def driver_release() -> str:
    """The driver's own version, such as ``580.65.06``; the CUDA that it runs where the system does not tell."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split()
    except OSError:
        return driver_cuda_version()
    return next((word for word in words if re.fullmatch(r"\d+\.\d+(\.\d+)?", word)), driver_cuda_version())


def wait_for_stream(stream: int) -> bool:
    """Wait until everything queued on somebody else's stream is done; False where it failed, or is no stream.

    The context must be current.
    """
    return bool(driver_library().cuStreamSynchronize(ctypes.c_void_p(stream)) == 0)


def gpu_of(address: int) -> int:
    """Number of the GPU whose memory ``address`` lies in; -1 where the driver does not know it."""
    found = ctypes.c_int(-1)
    status = driver_library().cuPointerGetAttribute(ctypes.byref(found), _DEVICE_ORDINAL, ctypes.c_uint64(address))
    return -1 if status else found.value
