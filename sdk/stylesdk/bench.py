"""Latency of ``Stylizer.run``, host to host, stage by stage."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stylesdk.errors import SinkError
from stylesdk.frames import Frame
from stylesdk.latency import machine_card
from stylesdk.stylizer import Stylizer


def measure(stylizer: Stylizer, frame: Frame, frames: int) -> dict[str, dict[str, float]]:
    """Percentiles in ms by stage over ``frames`` runs, after a tenth of them as warm-up."""
    for _ in range(max(frames // 10, 3)):
        stylizer.run(frame)
    stylizer.latency.clear()
    for _ in range(frames):
        stylizer.run(frame)
    return {stage: asdict(value) for stage, value in stylizer.latency.items()}


def bench_frame(size: tuple[int, int]) -> Frame:
    """A frame (height, width) with detail at every scale; the values do not change the speed."""
    from stylesdk.live.scene import render_frame

    return render_frame(0, 100, size)


def run_bench(
    models: list[str],
    size: tuple[int, int],
    frames: int,
    device: str,
    runtime: str | None,
    threads: int | None,
    output: Path | None,
    console: Console,
) -> None:
    """Measure every model, print one table, and write the figures as JSON where asked."""
    if output and not output.parent.is_dir():
        raise SinkError(f"no folder {output.parent}", expected="the folder of --json", do="make it")
    frame = bench_frame(size)
    table = Table("model", "backend", "stage", "p50 ms", "p90 ms", "p99 ms", "frames/s")
    report: dict[str, Any] = {"machine": machine_card(), "size": [size[1], size[0]], "models": {}}
    report["measured"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for model in models:
        with Stylizer(model, device=device, runtime=runtime, threads=threads) as stylizer:
            stages = measure(stylizer, frame, frames)
            report["models"][model] = {"backend": stylizer.backend, "stages": stages}
            for stage, value in stages.items():
                rate = f"{1000 / value['p50']:.1f}" if stage == "total" else ""
                figures = [f"{value[p]:.2f}" for p in ("p50", "p90", "p99")]
                table.add_row(model, stylizer.backend, stage, *figures, rate)
    console.print(table)
    console.print(f"{size[1]}x{size[0]}, {frames} frames, {report['machine']['processor']}", highlight=False)
    if output:
        temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        temporary.replace(output)
