"""Ours, the reference network and public peers, at the same three levels, in one run.

    python benchmarks/peers.py --peer mosaic=mosaic-9.onnx --peer hayao=hayao.onnx --json benchmarks/results/peers.json

Everything takes turns in rounds, one session alive at a time: the runtime alone, ``Stylizer.run`` host to host,
camera to sink. A peer is any ONNX file that turns one picture into one (see ``peer_models``); its pre- and
post-processing counts, as a user has to do it. What it computes in is said: a file of one fixed size smaller than the
frame has less to do, and its picture is scaled up. Each of ours is compared with each rival where the rival is
fastest. Losses are reported with wins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from latency import REFERENCE, _reference
from peer_models import PeerBackend, form_of
from reports import header, run_script, write_json
from rich.console import Console
from rich.table import Table

from stylesdk import Stylizer
from stylesdk.backends import Backend, open_backend
from stylesdk.bench import Measured, bench_frame, measure_levels
from stylesdk.bench.levels import CAMERA, KERNEL
from stylesdk.bench.limits import limit
from stylesdk.bench.report import costs_of, figures
from stylesdk.cli import parse_size
from stylesdk.frames import Frame
from stylesdk.latency import percentiles
from stylesdk.mix import split_style
from stylesdk.styles import DEFAULT, resolve

OURS, PEER = "ours", "peer"


@dataclass(frozen=True)
class Entry:
    """One model on one runtime, and how it is opened."""

    model: str
    kind: str  # ours, reference, peer
    runtime: str
    open: Callable[[], Backend]

    @property
    def label(self) -> str:
        """As the report and the table call it."""
        return f"{self.model} {self.runtime}"

    def opened(self) -> tuple[Stylizer, Backend]:
        """A Stylizer on its own backend; only one of ours may say which style of several."""
        backend = self.open()
        return Stylizer(self.model if self.kind == OURS else DEFAULT, backend=backend), backend

    def tried(self, frame: Frame) -> str:
        """One frame, before anything is measured, so that nothing fails later; the size that it computes in."""
        stylizer, backend = self.opened()
        with stylizer:
            stylizer.run(frame)
            height, width = backend.canvas((frame.shape[0], frame.shape[1]))
            return f"{width}x{height}"

    def measured(self, frame: Frame, frames: int, fps: float) -> Measured:
        """One round."""
        stylizer, backend = self.opened()
        with stylizer:
            return measure_levels(stylizer, backend, frame, frames, fps)


def entries(
    models: list[str], peers: dict[str, Path], runtimes: list[str], device: str, threads: int | None, folder: Path
) -> list[Entry]:
    """Everything that is measured, each on every runtime; a plan runs on TensorRT alone."""
    files = {model: resolve(split_style(model)[0]) for model in models}
    reference, found = _reference(folder), []
    for runtime in runtimes:
        ours = partial(open_backend, device=device, threads=threads, runtime=runtime)
        found.append(Entry(REFERENCE, REFERENCE, runtime, partial(ours, reference)))
        found += [
            Entry(name, PEER, runtime, partial(PeerBackend, path, runtime, device, threads))
            for name, path in peers.items()
        ]
        found += [
            Entry(name, OURS, runtime, partial(ours, path)) for name, path in files.items() if path.suffix == ".onnx"
        ]
    return found + [
        Entry(name, OURS, "tensorrt", partial(open_backend, path, device, threads))
        for name, path in files.items()
        if path.suffix != ".onnx"
    ]


def peers_of(words: list[str], models: list[str]) -> dict[str, Path]:
    """``NAME=FILE.onnx`` words, each file looked into before anything is measured.

    Raises:
        ModelFileError: a file that is not an image network.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, _, file = word.partition("=")
        if not name or not file:
            raise typer.BadParameter(f"got --peer {word}, expected NAME=FILE.onnx")
        if name in (*found, *models, REFERENCE):
            raise typer.BadParameter(f"got --peer {word}, expected a name that no other model has")
        found[name] = Path(file)
        form_of(found[name])
    return found


def comparisons(planned: list[Entry], times: list[float]) -> list[dict[str, Any]]:
    """Each of ours against each rival where that is fastest, by the median of ``Stylizer.run``."""
    rivals: dict[str, tuple[float, str]] = {}
    for entry, time in zip(planned, times, strict=True):
        if entry.kind != OURS:
            rivals[entry.model] = min(rivals.get(entry.model, (time, entry.label)), (time, entry.label))
    return [
        {"model": entry.label, "rival": rival, "times_faster": best / time, "won": time < best}
        for entry, time in zip(planned, times, strict=True)
        if entry.kind == OURS
        for best, rival in rivals.values()
    ]


def main(
    models: Annotated[list[str] | None, typer.Argument(help="Bundled styles or model files.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="NAME=FILE.onnx of a public network.")] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT")] = "640x480",
    runtime: Annotated[list[str] | None, typer.Option(help="onnxruntime, openvino. Default: both, on the CPU.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    frames: Annotated[int, typer.Option(min=3, help="Runs of each level a round.")] = 30,
    fps: Annotated[float, typer.Option(min=1, max=1000, help="Frames a second of the camera.")] = 30.0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Print every level of every model, and who is how many times faster."""
    names = models or ["starry_night.nano", "starry_night", "starry_night.base"]
    peers = peers_of(peer or [], names)
    runtimes = runtime or (["onnxruntime", "openvino"] if device == "cpu" else ["onnxruntime"])
    frame = bench_frame(parse_size(size))
    with tempfile.TemporaryDirectory() as folder:
        planned = entries(names, peers, runtimes, device, threads, Path(folder))
        sizes = [entry.tried(frame) for entry in planned]
        found = [entry.measured(frame, frames, fps) for entry in planned]
        for _ in range(rounds - 1):
            for entry, measured in zip(planned, found, strict=True):
                measured.add(entry.measured(frame, frames, fps))
    report = header() | {"size": size, "threads": threads, "rounds": rounds, "device": device}
    report["models"] = {
        entry.label: figures(one) | {"kind": entry.kind, "computes_in": inside, "limit": limit(costs_of(one))}
        for entry, one, inside in zip(planned, found, sizes, strict=True)
    }
    report["comparisons"] = comparisons(planned, [one.median("total") or 0.0 for one in found])
    if output:
        write_json(output, report)
    show(Console(), report, found)


def show(console: Console, report: dict[str, Any], found: list[Measured]) -> None:
    """A line for every model, and a line for every win and every loss."""
    table = Table("model, runtime", "kernel", "run p50", "p99", "p99.9", "camera", "frames/s")
    table.caption = "medians in ms unless another percentile is named; frames/s of the live pipeline, flat out"
    for (label, entry), one in zip(report["models"].items(), found, strict=True):
        total = percentiles(one.seconds["total"])
        medians = [one.median(KERNEL), total.p50, total.p99, total.p99_9, one.median(CAMERA)]
        cells = ["-" if value is None else f"{value:.2f}" for value in medians]
        inside = "" if entry["computes_in"] == report["size"] else f", in {entry['computes_in']}"
        table.add_row(label + inside, *cells, f"{entry['camera']['sustained_fps']:.1f}")
    console.print(table)
    for line in report["comparisons"]:
        word, colour = ("won ", "green") if line["won"] else ("lost", "red")
        text = f"{word} {line['model']}: {line['times_faster']:.2f} times as fast as {line['rival']}"
        console.print(text, style=colour, highlight=False, soft_wrap=True)
    if not any(entry["kind"] == PEER for entry in report["models"].values()):
        console.print("Public peers: not measured, none was given with --peer NAME=FILE.onnx", highlight=False)


if __name__ == "__main__":
    run_script(main)
