"""What the rows of gpu_check share: why one is not run, the model and the picture, times and differences."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
STYLES = ROOT / "sdk" / "stylesdk" / "styles"
WARM_UP, RUNS = 50, 200
MEAN_STEPS, MAX_STEPS = 1.0, 16  # of 255: how far fp16 or TF32 may be from the CPU

Figures = dict[str, float | int | str]


class NotRun(Exception):  # noqa: N818  # it is no error
    """Why a row could not be run."""


def need(package: str) -> Any:
    """Import a package, or say why the row is not run."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        raise NotRun(f"no {package} ({error})") from error


def cuda_torch() -> Any:
    """The package torch, with a GPU."""
    torch = need("torch")
    if not torch.cuda.is_available():
        raise NotRun(f"torch {torch.__version__} sees no CUDA device")
    return torch


def shipped_model(given: str | None) -> Path:
    """The ONNX file to run: the one given, else a bundled style in fp32."""
    if given:
        return Path(given)
    found = sorted(STYLES.glob("*.onnx"))
    if not found:
        raise NotRun("no bundled style; give --model FILE.onnx")
    # By its whole name: beside it lie the same style in other sizes and in int8.
    return next((p for p in found if p.name == "starry_night.onnx"), found[0])


def half_model(given: str | None, folder: Path) -> Path:
    """The file given as it is, else a bundled style in fp16: converted at the first call, since none is shipped."""
    path = shipped_model(given)
    if given:
        return path
    half = folder / f"{path.stem}.fp16.onnx"
    if not half.exists():
        convert = need("styleexport.fp16_from_onnx").fp16_from_onnx
        half.write_bytes(convert(path.read_bytes(), str(path)))
    return half


def picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A BGR uint8 (H, W, 3) test picture: slopes, an edge, noise."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([x * 255 / width, y * 255 / height, 255 * (x > y)], axis=2)
    noise = np.random.default_rng(1).normal(0, 8, planes.shape)
    return np.clip(planes + noise, 0, 255).astype(np.uint8)


def compared(got: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> Figures:
    """Difference in steps of 255; raises where it is no rounding any more."""
    difference = np.abs(got.astype(np.int16) - wanted.astype(np.int16))
    figures: Figures = {"mean steps": round(float(difference.mean()), 4), "max steps": int(difference.max())}
    # A blank picture equals a blank picture: what is compared must have something in it.
    if difference.mean() > MEAN_STEPS or difference.max() > MAX_STEPS or wanted.std() < 1:
        raise RuntimeError(f"wrong pixels: {figures}, expected at most {MEAN_STEPS} and {MAX_STEPS}")
    return figures


def spread(milliseconds: list[float], prefix: str = "") -> Figures:
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return {
        f"{prefix}p50 ms": round(p50, 3),
        f"{prefix}p90 ms": round(p90, 3),
        f"{prefix}p99 ms": round(p99, 3),
    }


def host_times(call: Callable[[], object]) -> list[float]:
    """Milliseconds of ``call``, which waits for the GPU itself."""
    seen = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        call()
        seen.append((time.perf_counter() - start) * 1e3)
    return seen[WARM_UP:]


def stream_times(torch: Any, stream: Any, call: Callable[[], object]) -> list[float]:
    """Milliseconds on the GPU of what ``call`` queues on ``stream``."""
    marks = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(WARM_UP + RUNS)]
    with torch.cuda.stream(stream):
        for start, end in marks:
            start.record(stream)
            if call() is False:  # TensorRT's way to say no
                raise RuntimeError("the engine failed on a frame")
            end.record(stream)
    stream.synchronize()
    return [start.elapsed_time(end) for start, end in marks[WARM_UP:]]
