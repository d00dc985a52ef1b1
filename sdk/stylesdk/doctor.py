"""What works on this machine, what is in conflict, and the line that mends it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from stylesdk.backends import installed, runtime_for
from stylesdk.engines.cache import kept
from stylesdk.errors import StyleSDKError
from stylesdk.gpu.driver import cuda_usable, driver_cuda_version
from stylesdk.latency import machine_card
from stylesdk.styles import styles
from stylesdk.stylizer import Stylizer

# distribution -> (what it serves, extra that brings it)
PACKAGES = {
    "numpy": ("frames", ""),
    "opencv-python": ("frames, cameras, windows", ""),
    "onnxruntime": ("ONNX models on the CPU", "cpu"),
    "onnxruntime-gpu": ("ONNX models on NVIDIA GPUs", "gpu"),
    "openvino": ("ONNX models on the CPU, fastest", "openvino"),
    "tensorrt": ("TensorRT plans", "tensorrt"),
    "tensorrt-rtx": ("TensorRT for RTX plans", "rtx"),
    "pycuda": ("TensorRT plans of both kinds", "rtx"),
    "av": ("video files, network streams", "live"),
    "mss": ("the screen as a source", "live"),
    "uvicorn": ("stylesdk serve", "web"),
    "aiortc": ("stylesdk serve over WebRTC", "web"),
    "pyvirtualcam": ("virtual cameras", "vcam"),
    "torch": ("training and export", "train"),
    "onnx": ("export", "export"),
}
_SAME_IMPORT = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
}


def conflicts() -> list[str]:
    """Packages that overwrite each other's files, each with the line that mends it."""
    found = []
    for module, packages in _SAME_IMPORT.items():
        present = [p for p in packages if installed(p)]
        if len(present) > 1:
            keep = present[0] if module == "cv2" else present[-1]
            drop = " ".join(present)
            found.append(
                f"{' and '.join(present)} are both `import {module}`, and break each other.\n"
                f"  do this: python -m pip uninstall -y {drop} && python -m pip install {keep}"
            )
    return found


def run_doctor(console: Console, models: Sequence[Path]) -> int:
    """Print the report. Returns 0 when a bundled style runs here and nothing is in conflict, else 1."""
    table = Table("package", "version", "serves")
    for package, (purpose, extra) in PACKAGES.items():
        found = installed(package)
        missing = f"missing: python -m pip install 'stylesdk\\[{extra}]'" if extra else "missing"
        table.add_row(package, found or "-", purpose if found else f"{purpose} ({missing})")
    console.print(table)
    for name, value in machine_card().items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(f"GPU: {_gpu()}", highlight=False, markup=False)
    console.print(f"ONNX models run on {_chosen()}", highlight=False, markup=False)
    console.print(f"TensorRT plans: {kept()}", highlight=False, markup=False)
    cameras = sorted(str(p) for p in Path("/dev").glob("video*"))
    console.print(f"cameras: {', '.join(cameras) or 'none seen'}", highlight=False)
    problems = conflicts() + _driver_problems() + _model_problems([*(s.path for s in styles()), *models])
    for problem in problems:
        console.print(f"problem: {problem}", style="red", highlight=False, markup=False)
    if not problems:
        console.print("A bundled style runs here, and nothing is in conflict.", style="green")
    return 1 if problems else 0


def _chosen() -> str:
    """The backend that a bundled style gets here, and why."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        runtime, reason = runtime_for("auto")
        try:
            with Stylizer() as stylizer:
                backend = stylizer.backend
        except StyleSDKError as error:
            return f"nothing: {error}"
    if runtime == "tensorrt" and told:  # whether TensorRT opens is known only when it was tried
        reason = str(told[0].message)
    return f"{backend}: {reason}"


def _gpu() -> str:
    reason = cuda_usable()
    return f"not usable: {reason}" if reason else f"CUDA device, driver for CUDA {driver_cuda_version()}"


def _driver_problems() -> list[str]:
    """What was built for a newer CUDA than the driver runs."""
    if cuda_usable():
        return []
    built_for_13 = [p for p in ("onnxruntime-gpu", "tensorrt-rtx-cu13", "tensorrt-cu13") if installed(p)]
    if float(driver_cuda_version()) >= 13 or not built_for_13:
        return []
    return [
        f"{', '.join(built_for_13)} need a driver for CUDA 13; this one runs CUDA {driver_cuda_version()}.\n"
        "  do this: update the NVIDIA driver to 580 or newer"
    ]


def _model_problems(models: Sequence[Path]) -> list[str]:
    """Open and run every model: damaged files, and plans for another GPU or TensorRT."""
    found = []
    for model in models:
        try:
            with Stylizer(model) as stylizer:
                stylizer.run(np.zeros((64, 64, 3), np.uint8))
        except StyleSDKError as error:
            found.append(f"{model}\n{error}")
    return found
