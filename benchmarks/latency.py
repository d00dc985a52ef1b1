"""Latency of every style on every runtime, beside the reference network of the field, in the same run.

    python benchmarks/latency.py --json benchmarks/results/latency.json
    python benchmarks/latency.py --untrained        # the family's sizes with random weights, before any is trained

`Stylizer.run`, host to host, at 640x480, for: the fp32 file on onnxruntime, the int8 file on onnxruntime, and
OpenVINO with the fp32 file (bf16 arithmetic where the CPU has it) and with the int8 file. The reference is Johnson
et al. 2016 (32-64-128 channels, five residual blocks, instance norm) with random weights, fp32, onnxruntime,
exported here into the same frame contract; it runs on OpenVINO too, beside the rest. Everything takes turns in
rounds, one session alive at a time, so that a noisy machine is noisy for all. The nano int8 file also runs at
1920x1080 on OpenVINO. A file of several styles runs twice, once with another style every frame: that must cost
nothing. No int8 file of base is shipped; it is made here to be timed, and nothing is said about its pictures.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from model_files import subjects_of
from reports import Requirement, conclude, header, run_script
from rich.console import Console
from rich.table import Table

from styleexport.int8_from_onnx import int8_from_onnx
from styleexport.onnx_from_checkpoint import onnx_from_generator
from styleexport.verify import Sample
from stylesdk import Manifest, Stylizer
from stylesdk.bench import bench_frame
from stylesdk.cli import parse_size
from stylesdk.frames import Frame
from stylesdk.latency import STAGES, percentiles
from stylesdk.styles import resolve
from styletrainer.generators import Johnson, Realtime
from styletrainer.generators.realtime import SIZES

REFERENCE = "reference"
STYLE = "starry_night"
FULL_HD = (1080, 1920)
_TAIL, _SWITCHING = ", at 1920x1080", ", another style every frame"
WARM_UP = 3
# size -> times the reference: onnxruntime fp32, onnxruntime int8, the best of OpenVINO
WANTED = {"nano": (30, 60, 90), "small": (15, 35, 50), "base": (8, 18, 25)}


@dataclass(frozen=True)
class Entry:
    """One file on one runtime."""

    model: str
    precision: str  # of the file
    runtime: str
    path: Path
    size: tuple[int, int]  # (height, width)
    family: str = ""  # nano, small, base; empty of other networks, of which nothing is asked
    full_hd: bool = False
    switching: bool = False

    @property
    def label(self) -> str:
        """As the report and the table call it."""
        return f"{self.model} {self.precision} {self.runtime}{_TAIL * self.full_hd}{_SWITCHING * self.switching}"


def entries(models: dict[str, Path], folder: Path, size: tuple[int, int]) -> list[Entry]:
    """Everything that is measured of fp32 files by name; int8 files are beside them, or made here."""
    # On onnxruntime, which everything is compared with; on OpenVINO for those who would run it there.
    reference = _reference(folder)
    found = [Entry(REFERENCE, "fp32", runtime, reference, size) for runtime in ("onnxruntime", "openvino")]
    for name, path in models.items():
        [first, *others] = subjects_of(str(path), folder)
        if others:
            alone = [Entry(name, "fp32", runtime, path, size) for runtime in ("onnxruntime", "openvino")]
            found += [replace(entry, switching=switching) for entry in alone for switching in (False, True)]
            continue
        int8 = path.with_name(f"{path.stem}.int8.onnx")
        if not int8.is_file():
            int8 = folder / f"{name}.int8.onnx"
            int8.write_bytes(int8_from_onnx(path.read_bytes(), name, [Sample(bench_frame(size))]))
        for precision, file in (("fp32", path), ("int8", int8)):
            found += [
                Entry(name, precision, runtime, file, size, first.size) for runtime in ("onnxruntime", "openvino")
            ]
        if first.size == "nano":
            found.append(Entry(name, "int8", "openvino", int8, FULL_HD, first.size, full_hd=True))
    return found


def _reference(folder: Path) -> Path:
    """The reference network in the frame contract, random weights: speed does not depend on them."""
    torch.manual_seed(0)
    return _written(folder, REFERENCE, Johnson())


def _written(folder: Path, name: str, generator: torch.nn.Module) -> Path:
    training = {"generator_options": {"size": generator.size}} if isinstance(generator, Realtime) else {}
    manifest = Manifest(name, (name,), 8, "fp32", "Apache-2.0", training=training)
    path = folder / f"{name}.onnx"
    path.write_bytes(onnx_from_generator(generator.eval(), manifest))
    return path


def measure(entry: Entry, frame: Frame, frames: int, threads: int, seconds: dict[str, list[float]]) -> str:
    """Add one round of ``frames`` runs to ``seconds``, after warm-up; returns what ran it."""
    with Stylizer(entry.path, device="cpu", threads=threads, runtime=entry.runtime) as stylizer:
        styles = stylizer.styles
        for turn in range(WARM_UP + frames):
            stylizer.latency.clear()
            stylizer.run(frame, style=styles[turn % len(styles)] if entry.switching else None)
            if turn >= WARM_UP:
                for stage in STAGES:
                    seconds[stage].append(stylizer.latency[stage].p50 / 1e3)
        return stylizer.backend


def requirements(times: dict[str, float], rates: dict[str, float], families: dict[str, str]) -> list[Requirement]:
    """What is asked of every size: times faster than the reference, frames a second at 1920x1080.

    ``families``: nano, small, base by model; what is none of these has no figure to reach.
    """
    lines = []
    for model, family in families.items():
        if f"{model} int8 onnxruntime" not in times:  # several styles
            alone = [f"{model} fp32 {runtime}" for runtime in ("onnxruntime", "openvino")]
            slower = max(times[label] / times[label + _SWITCHING] for label in alone)
            lines.append(Requirement(f"{model}: another style every frame, times as long", slower, 1.1))
            continue
        best = max(times[f"{model} {precision} openvino"] for precision in ("fp32", "int8"))
        found = (times[f"{model} fp32 onnxruntime"], times[f"{model} int8 onnxruntime"], best)
        names = ("onnxruntime fp32", "onnxruntime int8", "OpenVINO best")
        for name, value, wanted in zip(names, found, WANTED.get(family, ()), strict=family in WANTED):
            lines.append(Requirement(f"{model}: {name}, times the reference", value, at_least=wanted))
    return lines + [Requirement(f"{label}: frames/s", rate, at_least=30) for label, rate in rates.items()]


def main(
    models: Annotated[list[str] | None, typer.Argument(help="Bundled styles or fp32 ONNX files.")] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT")] = "640x480",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    frames: Annotated[int, typer.Option(min=3, help="Frames a round; the reference runs a quarter.")] = 40,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random weights of every size.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Print p50, p90, p99, and how many times faster than the reference everything is."""
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = models or [f"{STYLE}.nano", STYLE, f"{STYLE}.base", "six"]
        paths = {Path(name).stem if name.endswith(".onnx") else name: resolve(name) for name in names if not untrained}
        if untrained:
            paths = {f"untrained.{name}": _written(folder, f"untrained.{name}", Realtime(name)) for name in SIZES}  # type: ignore[arg-type]
        found = entries(paths, folder, parse_size(size))
        seconds: dict[str, dict[str, list[float]]] = {entry.label: defaultdict(list) for entry in found}
        backends: dict[str, str] = {}
        for _ in range(rounds):
            for entry in found:
                count = max(frames // 4, 3) if entry.model == REFERENCE else frames
                frame = bench_frame(entry.size)
                backends[entry.label] = measure(entry, frame, count, threads, seconds[entry.label])
    families = {entry.model: entry.family for entry in found if entry.model != REFERENCE}
    _report(console, seconds, backends, families, {"size": size, "threads": threads}, output)


def _report(
    console: Console,
    seconds: dict[str, dict[str, list[float]]],
    backends: dict[str, str],
    families: dict[str, str],
    settings: dict[str, Any],
    output: Path | None,
) -> None:
    figures = {label: {s: asdict(percentiles(v)) for s, v in stages.items()} for label, stages in seconds.items()}
    reference = next(iter(figures.values()))["total"]["p50"]
    times, rates = {}, {}
    table = Table("model, file, runtime", "ran on", "p50 ms", "p90 ms", "p99 ms", "times faster")
    for label, stages in figures.items():
        total = stages["total"]
        if label.endswith(_TAIL):
            rates[label] = 1000 / total["p50"]
            faster = f"{rates[label]:.0f} frames/s"
        else:
            times[label] = reference / total["p50"]
            faster = f"{times[label]:.1f}"
        table.add_row(label, backends[label], *(f"{total[p]:.2f}" for p in ("p50", "p90", "p99")), faster)
    console.print(table)
    report = header() | settings
    report["models"] = {
        label: {"backend": backends[label], "milliseconds": stages, "times_faster": times.get(label)}
        for label, stages in figures.items()
    }
    conclude(console, requirements(times, rates, families), report, output)


if __name__ == "__main__":
    run_script(main)
