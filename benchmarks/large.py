"""A frame far larger than any screen, in tiles: is it the untiled picture, and how much memory does it take?

    python benchmarks/large.py --json benchmarks/results/large.json

Each run has a process of its own, whose peak resident memory counts, and starts anew for every runtime. The frame
is a rendered scene enlarged, with noise: 7680x4320, BGR, 100 MB. Untiled, the same model needs gigabytes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from reports import Requirement, conclude, header, run_script
from rich.console import Console

import stylesdk.tiles
from stylesdk import Stylizer
from stylesdk.cli import parse_size
from stylesdk.errors import StyleSDKError
from stylesdk.frames import Frame
from stylesdk.live.scene import render_frame

MEMORY_LIMIT = 2 * 2**30


def large_frame(height: int, width: int) -> Frame:
    """The demo's scene with sensor noise, BGR uint8 (height, width, 3)."""
    frame = cv2.resize(render_frame(0, 100, (720, 1280)), (width, height), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).integers(-6, 7, (height, width, 1), dtype=np.int8)
    return np.asarray(cv2.add(frame, np.repeat(noise, 3, 2), dtype=cv2.CV_8U), dtype=np.uint8)


def style_once(model: str, runtime: str, size: tuple[int, int], whole: bool, output: Path) -> None:
    """Style the frame in this process, write it as .npy, and print what it took as JSON."""
    frame = large_frame(*size)
    if whole:
        stylesdk.tiles.TILE = max(size)
    with Stylizer(model, device="cpu", runtime=runtime) as stylizer:
        start = time.perf_counter()
        styled = stylizer.run(frame)
        seconds = time.perf_counter() - start
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    np.save(output, styled)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


def measured(model: str, runtime: str, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of both ways, and their largest difference."""
    found: dict[str, Any] = {}
    for way in ("tiles", "whole"):
        words = [str(Path(__file__)), model, "--child", str(folder / f"{way}.npy"), "--runtime", runtime]
        words += ["--size", f"{size[1]}x{size[0]}", *(["--whole"] if way == "whole" else [])]
        run = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        if run.returncode:
            told = (
                run.stderr.strip().removeprefix("error: ")
                or f"ended by signal {-run.returncode}; out of memory where that is 9"
            )
            so_far = f"; in tiles: {found['tiles']}" if found else ""
            raise StyleSDKError(f"{model} on {runtime}, {way}: {told}{so_far}", expected="a styled frame")
        found[way] = json.loads(run.stdout.splitlines()[-1])
    tiles, whole = (np.load(folder / f"{way}.npy") for way in ("tiles", "whole"))
    return found | {"largest_difference": int(cv2.absdiff(tiles, whole).max())}


def main(
    model: Annotated[str, typer.Argument(help="Bundled style or model file.")] = "starry_night",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT")] = "7680x4320",
    runtime: Annotated[list[str] | None, typer.Option(help="onnxruntime, openvino; may be given twice.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    whole: Annotated[bool, typer.Option("--whole", hidden=True)] = False,
    child: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Style one large frame in tiles and in one piece, on every runtime."""
    runtimes = runtime or ["onnxruntime", "openvino"]
    if child:
        style_once(model, runtimes[0], parse_size(size), whole, child)
        return
    console = Console()
    report = header() | {"model": model, "size": size, "runtimes": {}}
    lines = []
    for name in runtimes:
        with tempfile.TemporaryDirectory() as folder:
            found = report["runtimes"][name] = measured(model, name, parse_size(size), Path(folder))
        console.print(name, found)
        peak = found["tiles"]["peak_bytes"] / 2**20
        lines.append(Requirement(f"{model} on {name}: peak memory in tiles, MiB", peak, MEMORY_LIMIT / 2**20))
        lines.append(Requirement(f"{model} on {name}: difference to one piece", found["largest_difference"], 1))
    conclude(console, lines, report, output)


if __name__ == "__main__":
    run_script(main)
