"""Figures as a table and as JSON, and the command that measures them."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stylesdk.backends import open_backend
from stylesdk.bench.levels import CAMERA, COPY_IN, COPY_OUT, KERNEL, Measured, bench_frame, measure_levels
from stylesdk.bench.limits import Costs, faster_models, limit
from stylesdk.bench.streams import MOST, StreamRun, sustained_streams
from stylesdk.errors import SinkError
from stylesdk.frames import Frame
from stylesdk.gpu.nvidia_smi import query_gpu
from stylesdk.latency import STAGES, Percentiles, machine_card, percentiles, usable_cores
from stylesdk.live.sinks import check_writable
from stylesdk.mix import split_style
from stylesdk.styles import resolve, styles
from stylesdk.stylizer import Stylizer

ROWS = (KERNEL, COPY_IN, COPY_OUT, *STAGES, CAMERA)  # from the inside out
_SHOWN = {"total": "run, host to host", KERNEL: "kernel, in place"}
_GPU = (
    "{gpu}, driver {driver}: {memory_used_mib} of {memory_total_mib} MiB ({process_mib} by this process), "
    "{sm_mhz} MHz, memory {memory_mhz} MHz, {celsius} degrees Celsius, {watts} W"
)


@dataclass(frozen=True)
class Settings:
    """What is measured: ``size`` is (height, width), ``fps`` the camera's, ``streams`` whether these are counted."""

    size: tuple[int, int]
    frames: int = 100
    fps: float = 30.0
    device: str = "auto"
    runtime: str | None = None
    threads: int | None = None
    streams: bool = False

    def open(self, model: str, streams: int = 1) -> Stylizer:
        """One of ``streams`` Stylizers that share the processor's cores."""
        threads = self.threads or max(usable_cores() // streams, 1)
        return Stylizer(model, device=self.device, runtime=self.runtime, threads=threads)


def run_bench(models: list[str], settings: Settings, output: Path | None, console: Console) -> None:
    """Measure every model, print a table of each, and write the figures as JSON where asked, after each model.

    Raises:
        ModelFileError: a model that is not there, before anything is measured; a damaged one, when its turn comes.
        SinkError: nothing can be written beside ``output``.
        SourceError: frames smaller than 16x16.
    """
    if output and output.is_dir():
        raise SinkError(f"--json {output}, a folder", expected="a file", do=f"use --json {output / 'bench.json'}")
    if output:
        check_writable(output.parent)
    for model in models:
        resolve(split_style(model)[0])
    frame = bench_frame(settings.size)
    height, width = settings.size
    report: dict[str, Any] = {
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_card(),
        "settings": asdict(settings) | {"size": f"{width}x{height}"},
        "models": {},
    }
    for model in models:
        report["models"][model] = _measured(model, settings, frame, console)
        if output:
            write_report(output, report)
    machine = report["machine"]
    console.print(f"{width}x{height}, {machine['processor']}, {machine['cores']} cores", highlight=False)


def _measured(model: str, settings: Settings, frame: Frame, console: Console) -> dict[str, Any]:
    backend = open_backend(resolve(split_style(model)[0]), settings.device, settings.threads, settings.runtime)
    with Stylizer(model, backend=backend) as stylizer:
        found = measure_levels(stylizer, backend, frame, settings.frames, settings.fps)
        gpu = query_gpu(busy=lambda: stylizer.run(frame))
    console.print(table_of(model, found))
    entry = figures(found) | {"gpu": gpu, "limit": limit(costs_of(found), faster_models(model, _bundled()))}
    lines = [f"what limits you: {entry['limit']}", *_about(found, gpu)]
    if settings.streams:
        tries = sustained_streams(lambda count: settings.open(model, count), frame, settings.fps)
        entry["streams"] = streams_of(tries)
        lines.append(streams_line(tries, settings.fps))
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return entry


def _bundled() -> list[str]:
    return [entry.name for entry in styles()]


def costs_of(found: Measured) -> Costs:
    """Medians, for ``limit``."""
    stages = {stage: found.median(stage) or 0.0 for stage in STAGES}
    copies = [found.median(level) for level in (COPY_IN, COPY_OUT)]
    known = None if None in copies else sum(value or 0.0 for value in copies)
    return Costs(**stages, kernel=found.median(KERNEL), copies=known, fps=found.fps, sustained=_sustained(found))


def figures(found: Measured) -> dict[str, Any]:
    """Everything measured, for JSON: milliseconds by level, frames a second; null for what is not known."""
    level = {name: asdict(percentiles(values)) for name, values in found.seconds.items() if values}
    copies = {"in": level[COPY_IN], "out": level[COPY_OUT]} if COPY_IN in level else None
    return {
        "backend": found.backend,
        "cuda_graph": found.cuda_graph,
        "kernel": level.get(KERNEL),
        "copies": copies,
        "stages": {stage: level[stage] for stage in STAGES},
        "camera": {
            "fps": found.fps,
            "age": level[CAMERA],
            "delivered": found.delivered,
            "dropped": found.dropped,
            "sustained_fps": _sustained(found),
        },
    }


def _sustained(found: Measured) -> float:
    return sum(found.sustained) / len(found.sustained)


def table_of(model: str, found: Measured) -> Table:
    """Percentiles of one model by level; - is not known, or not there."""
    title = escape(f"{model} on {found.backend}")
    table = Table("level", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "runs", "frames/s", title=title)
    for level in ROWS:
        values, median = found.seconds.get(level), found.median(level)
        rate = f"{1000 / median:.1f}" if median and level in (KERNEL, "total") else ""
        table.add_row(_SHOWN.get(level, level), *_cells(percentiles(values) if values else None), rate)
    table.add_row("pipeline, flat out", *[""] * 5, f"{_sustained(found):.1f}")
    return table


def _cells(shown: Percentiles | None) -> list[str]:
    if shown is None:
        return ["-"] * 5
    values = [shown.p50, shown.p90, shown.p99, shown.p99_9]
    return [*("-" if value is None else f"{value:.2f}" for value in values), str(shown.count)]


def _about(found: Measured, gpu: dict[str, Any] | None) -> list[str]:
    lines = []
    if found.dropped:
        lines.append(f"camera of {found.fps:g} frames/s: {found.dropped} frames dropped, {found.delivered} delivered")
    if found.cuda_graph is not None:
        lines.append(f"CUDA graph: {'on' if found.cuda_graph else 'off'}")
    if gpu:
        told = defaultdict(lambda: "-", {key: value for key, value in gpu.items() if value is not None})
        lines.append(_GPU.format_map(told))
    return lines


def streams_of(tries: list[StreamRun]) -> dict[str, Any]:
    """The largest number of streams that held, and every try, for JSON."""
    return {"held": max((run.streams for run in tries if run.held), default=0), "tries": [asdict(run) for run in tries]}


def streams_line(tries: list[StreamRun], fps: float) -> str:
    """What ``--streams`` found, in words."""
    held = max((run for run in tries if run.held), key=lambda run: run.streams, default=None)
    if held is None:
        first = tries[0]
        return f"streams at {fps:g} frames/s: none; one alone reaches {first.fps[0]:.1f}"
    least = "at least " if held.streams == MOST else ""
    return f"streams at {fps:g} frames/s: {least}{held.streams}, the slowest at {min(held.fps):.1f}"


def write_report(output: Path, report: dict[str, Any]) -> None:
    """Write JSON in one step. Raises SinkError."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        raise SinkError(f"{output}: {error.strerror}", do="check the free space and the folder's rights") from error
    finally:
        temporary.unlink(missing_ok=True)
