"""Latency of a style beside the reference network of the field, in the same run.

    python benchmarks/latency.py --json benchmarks/results/latency.json

For each model: `Stylizer.run` host to host, stage by stage, and bare inference (the runtime's own call on a
frame that lies ready). The reference is Johnson et al. 2016 (32-64-128 channels, five residual blocks,
instance norm) with random weights, exported here into the same frame contract. Models take turns
in rounds, one session alive at a time, so that a noisy machine is noisy for all of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import onnxruntime
import torch
import typer
from rich.console import Console
from rich.table import Table

from styleexport.onnx_from_checkpoint import onnx_from_generator
from stylesdk import Manifest, Stylizer
from stylesdk.bench import bench_frame
from stylesdk.cli import parse_size
from stylesdk.frames import Frame
from stylesdk.latency import STAGES, machine_card, percentiles
from stylesdk.styles import resolve
from styletrainer.generators import Johnson

REFERENCE = "reference"
Seconds = dict[str, list[float]]


def write_reference(folder: Path) -> Path:
    """The reference network in the frame contract, random weights: speed does not depend on them."""
    torch.manual_seed(0)
    manifest = Manifest(name=REFERENCE, styles=(REFERENCE,), stride=4, precision="fp32", licence="Apache-2.0")
    path = folder / "reference.onnx"
    path.write_bytes(onnx_from_generator(Johnson(), manifest))
    return path


def measure_round(path: Path, frame: Frame, frames: int, threads: int, seconds: Seconds) -> str:
    """Add one round of ``frames`` runs to ``seconds``, after warm-up; returns what ran it."""
    with Stylizer(path, device="cpu", threads=threads) as stylizer:
        for _ in range(3):
            stylizer.run(frame)
        for _ in range(frames):
            stylizer.latency.clear()
            stylizer.run(frame)
            for stage in STAGES:
                seconds[stage].append(stylizer.latency[stage].p50 / 1e3)
        backend = stylizer.backend
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {"frame": frame[None], "strength": torch.ones(1).numpy()}
    for turn in range(frames + 3):
        start = time.perf_counter()
        session.run(["styled"], feeds)
        if turn >= 3:
            seconds["bare"].append(time.perf_counter() - start)
    return backend


def main(
    styles: Annotated[list[str] | None, typer.Argument(help="Bundled styles or ONNX files.")] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT")] = "640x480",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    frames: Annotated[int, typer.Option(min=3, help="Frames a round; the reference runs a quarter.")] = 40,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Print p50, p90, p99 of every stage, and how many times faster than the reference each model is."""
    console = Console()
    frame = bench_frame(parse_size(size))
    models = styles or ["starry_night"]
    with tempfile.TemporaryDirectory() as folder:
        paths = {REFERENCE: write_reference(Path(folder)), **{m: resolve(m) for m in models}}
        seconds: dict[str, Seconds] = {m: {s: [] for s in (*STAGES, "bare")} for m in paths}
        backends: dict[str, str] = {}
        for _ in range(rounds):
            for model, path in paths.items():
                count = max(frames // 4, 3) if model == REFERENCE else frames
                backends[model] = measure_round(path, frame, count, threads, seconds[model])
    report = _report(seconds, backends, size, threads)
    console.print(_table(report))
    machine = report["machine"]
    console.print(f"{size}, {threads} threads, {machine['processor']}, {machine['cores']} cores")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _report(seconds: dict[str, Seconds], backends: dict[str, str], size: str, threads: int) -> dict[str, Any]:
    models: dict[str, Any] = {}
    for model, stages in seconds.items():
        figures = {stage: asdict(percentiles(values)) for stage, values in stages.items()}
        models[model] = {"backend": backends[model], "milliseconds": figures}
    for entry in models.values():
        for stage in ("total", "bare"):
            reference = models[REFERENCE]["milliseconds"][stage]["p50"]
            entry[f"times_faster_{stage}"] = reference / entry["milliseconds"][stage]["p50"]
    return {
        "command": "python benchmarks/latency.py",
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_card(),
        "size": size,
        "threads": threads,
        "models": models,
    }


def _table(report: dict[str, Any]) -> Table:
    table = Table("model", "stage", "p50 ms", "p90 ms", "p99 ms", "times faster")
    for model, entry in report["models"].items():
        for stage, value in entry["milliseconds"].items():
            figures = [f"{value[p]:.2f}" for p in ("p50", "p90", "p99")]
            ratio = entry.get(f"times_faster_{stage}")
            table.add_row(model, stage, *figures, f"{ratio:.1f}" if ratio else "")
    return table


if __name__ == "__main__":
    typer.run(main)
