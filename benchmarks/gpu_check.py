"""Everything that only a GPU can prove, in one table: python benchmarks/gpu_check.py

Exit code 0: a GPU is there and nothing failed; 1: something failed; 2: no GPU. What is not installed is
"not run", with the reason; --strict counts that as failed. Needs nothing but the repository
(PYTHONPATH=sdk:trainer:export), torch and numpy; each further package adds rows. TensorRT comes last, and
the result file is written after each row, because a runtime that meets a GPU which it does not know may
end the process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from gpu_basics import ROOT, Figures, NotRun, cuda_torch, half_model, need
from gpu_engines import (
    LIMITS,
    engine_graph,
    engine_limits,
    engine_pixels,
    ort_graph,
    ort_pixels,
    plan_of,
    reference_model,
    stylizer_latency,
)
from gpu_training import copies, training

SIZES = ((480, 640), (720, 1280))  # height, width
PACKAGES = ("torch", "onnxruntime", "pycuda", "onnx", "cv2", "tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    status: str  # ok, failed, not run
    figures: Figures


def no_gpu() -> str:
    """Why there is no GPU; empty where there is one."""
    try:
        usable: Callable[[], str] = importlib.import_module("stylesdk.gpu.driver").cuda_usable
        return usable()
    except ImportError:  # stylesdk wants opencv
        with suppress(NotRun):
            cuda_torch()
            return ""
        return "neither stylesdk nor torch sees a CUDA device"


def environment(gpu: bool) -> Figures:
    """Versions, or why there is none."""
    found: Figures = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        if name == "tensorrt" and not gpu:  # without a driver its import may crash the process
            found[name] = "not asked without a GPU"
            continue
        try:
            found[name] = str(getattr(need(name), "__version__", None) or need(name).VERSION_TEXT)
        except NotRun as reason:
            found[name] = str(reason)
    with suppress(NotRun):
        torch = need("torch")
        found["cuda of torch"] = str(torch.version.cuda)
        if torch.cuda.is_available():
            found["GPU"] = torch.cuda.get_device_name(0)
            found["compute capability"] = ".".join(map(str, torch.cuda.get_device_capability(0)))
    return found


def checks(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """Every row but the first, in order."""
    model = options.model
    half = partial(half_model, model, folder)
    for size in (*SIZES, (1080, 1920)):
        yield f"copies {size[1]}x{size[0]}", partial(copies, size)
    for batch in (4, 16):
        yield f"training, batch {batch}", partial(training, batch, options.steps)
    yield "onnxruntime CUDA: right pixels", partial(ort_pixels, model)
    for size in SIZES:
        label = f"{size[1]}x{size[0]}"
        yield f"onnxruntime CUDA: Stylizer {label}", partial(stylizer_latency, half, size)
        yield f"onnxruntime CUDA: on the GPU {label}", partial(ort_graph, half, size)
    for flavour in ("tensorrt", "tensorrt_rtx"):
        plans = {size: partial(plan_of, half, flavour, size, folder) for size in SIZES}
        yield f"{flavour}: right pixels", partial(engine_pixels, half, plans[SIZES[0]])
        for size, plan in plans.items():
            label = f"{size[1]}x{size[0]}"
            yield f"{flavour}: Stylizer {label}", partial(stylizer_latency, plan, size)
            yield f"{flavour}: on the GPU {label}", partial(engine_graph, plan, flavour, size)
        for size in LIMITS:
            label = f"{size[1]}x{size[0]}"
            yield (
                f"{flavour}: limits {label}",
                partial(engine_limits, partial(plan_of, half, flavour, size, folder), size, True),
            )
        rival = folder / "reference"
        plan = partial(plan_of, partial(reference_model, folder), flavour, next(iter(LIMITS)), rival)
        yield f"{flavour}: the reference network", partial(engine_limits, plan, next(iter(LIMITS)), False)


def checked(name: str, check: Callable[[], Figures], reason: str) -> Row:
    """Run one row; what fails in it stays in it."""
    if reason:
        return Row(name, "not run", {"why": f"no GPU: {reason}"})
    try:
        return Row(name, "ok", check())
    except (NotRun, ImportError) as missing:
        return Row(name, "not run", {"why": _told(missing)})
    except Exception as error:  # noqa: BLE001  # each row says itself what went wrong
        return Row(name, "failed", {"why": f"{type(error).__name__}: {_told(error)}"})


def _told(error: BaseException) -> str:
    return " ".join(str(error).replace(str(ROOT), ".").split())[:400]


def show(rows: list[Row]) -> None:
    """The table, by rich where it is there."""
    lines = [(r.name, r.status, ", ".join(f"{k} {v}" for k, v in r.figures.items())) for r in rows]
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        print("\n".join(f"{name:38} {status:8} {text}" for name, status, text in lines))
        return
    colours = {"ok": "green", "failed": "red", "not run": "yellow"}
    table = Table("check", "status", "figures", title="gpu_check")
    for name, status, text in lines:
        table.add_row(name, f"[{colours[status]}]{status}[/]", escape(text))
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description="Everything that only a GPU can prove, in one table.")
    parser.add_argument("--model", help="ONNX file in the frame contract; default: a bundled style")
    parser.add_argument("--steps", type=int, default=30, help="training steps to time")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), help="folder of the result file")
    parser.add_argument("--strict", action="store_true", help="what is not run counts as failed")
    options = parser.parse_args(arguments)
    reason = no_gpu()
    rows = [Row("environment", "ok", environment(gpu=not reason))]
    result = Path(options.out) / f"gpu_check-{time.strftime('%Y%m%d-%H%M%S')}.json"
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks(options, Path(folder)):
            if not reason:
                print(f"{name} ...", file=sys.stderr, flush=True)
            rows.append(checked(name, check, reason))
            if not reason:  # nothing was measured without one
                result.parent.mkdir(parents=True, exist_ok=True)
                result.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    show(rows)
    if reason:
        print(f"no GPU: {reason}")
        return 2
    bad = ("failed", "not run") if options.strict else ("failed",)
    return int(any(row.status in bad for row in rows))


if __name__ == "__main__":
    sys.exit(main())
