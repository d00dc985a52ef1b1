"""What this machine has for TensorRT plans of its own. Nothing of TensorRT is imported to find out."""

from __future__ import annotations

import importlib.util

from stylesdk.gpu import cuda_usable

_NEEDED = {
    "pycuda": "rtx",
    "onnx": "rtx",  # a plan is built from fp16, in a process of its own
    "onnxruntime": "cpu",  # keeps the picture alive, and is what a plan is compared with
}


def why_not() -> str:
    """Why no plan can be built and used here, in words; an empty string where one can."""
    if reason := cuda_usable():
        return reason
    if not best_flavour():
        return "no TensorRT: python -m pip install 'stylesdk[rtx]'"
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    return f"no package {missing[0]}: python -m pip install 'stylesdk[{_NEEDED[missing[0]]}]'" if missing else ""


def best_flavour() -> str:
    """``tensorrt`` where it is installed, since it tunes for the GPU, else ``tensorrt_rtx``; "" without either."""
    found = [name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name)]
    return found[0] if found else ""
