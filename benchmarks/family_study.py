"""Widths and depths of the real-time family: what each costs, and how well it learns the same teacher.

    python benchmarks/family_study.py ARTWORK --photos DIR --pictures DIR --steps 300 -o benchmarks/results/family

Every candidate follows the same teacher's pictures for the same steps (stage ``distill``, one seed); its distance to
them, a mean over the last quarter, stands against the median latency of its fp32 file at 640x480, onnxruntime, beside
the reference network in the same run. Writes family.json and family.png. A run that was stopped goes on.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import typer
from reports import header, run_script, write_json
from rich.console import Console

from styleexport.onnx_from_checkpoint import generator_from_run, onnx_from_generator
from stylesdk import Manifest, Stylizer
from styletrainer.cli import STAGES
from styletrainer.config import config_from_dict, settings_from_toml
from styletrainer.generators import Johnson
from styletrainer.generators.realtime import SIZES
from styletrainer.run.loop import train
from styletrainer.run.report import STATS

mpl.use("Agg")
from matplotlib import pyplot as plt

FRAMES, WARM_UP = 40, 5
SHIPPED = tuple(SIZES)
# channels at 1/4, channels at 1/8, convolutions at 1/8, convolutions at 1/4 after them
CANDIDATES = {
    **SIZES,
    "narrow and deep": (32, 32, 20, 3),
    "wide and shallow": (32, 80, 5, 3),
    "short tail": (32, 48, 12, 1),
    "all at 1/4": (32, 32, 1, 6),
}


def milliseconds(data: bytes, folder: Path) -> float:
    """Median of ``Stylizer.run`` at 640x480 on onnxruntime."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with Stylizer(path, device="cpu", threads=2, runtime="onnxruntime") as stylizer:
        for _ in range(WARM_UP):
            stylizer.run(frame)
        stylizer.latency.clear()
        for _ in range(FRAMES):
            stylizer.run(frame)
        return stylizer.latency["total"].p50


def learned(name: str, settings: dict[str, Any], folder: Path) -> tuple[Path, float]:
    """Train candidate ``name``; its run, and its distance to the teacher over the last quarter."""
    steps = settings["steps"]
    options = {"run": str(folder / name.replace(" ", "_")), "generator_options": {"size": name}, "tick": steps // 4}
    run = train(config_from_dict(settings | options, "the study"), Console(quiet=True))
    last = (run / STATS).read_text(encoding="utf-8").splitlines()[-1]
    return run, float(json.loads(last)["teacher"])


def plot(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Latency across, distance to the teacher up."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, row in rows.items():
        axes.scatter(row["milliseconds"], row["distance"], color="C3" if name in SHIPPED else "C0")
        axes.annotate(name, (row["milliseconds"], row["distance"]), textcoords="offset points", xytext=(6, 4))
    axes.set_xlabel("ms, 640x480, onnxruntime fp32, 2 threads")
    axes.set_ylabel("distance to the teacher's pictures")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(
    artwork: Annotated[Path, typer.Argument(help="The style's artwork.")],
    photos: Annotated[Path, typer.Option(help="Folder of photographs.")],
    pictures: Annotated[Path, typer.Option(help="The teacher's picture of every photo.")],
    output: Annotated[Path, typer.Option("-o", help="Path of the report, without suffix.")],
    runs: Annotated[Path, typer.Option(help="Folder of the runs; those in it go on.")] = Path("runs/family"),
    steps: Annotated[int, typer.Option(min=40)] = 300,
) -> None:
    """Train and time every candidate."""
    console = Console()
    settings = settings_from_toml(STAGES / "distill.toml") | {
        "artworks": [str(artwork)],
        "photos": str(photos),
        "pictures": [str(pictures)],
        "steps": steps,
    }
    SIZES.update(CANDIDATES)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = Manifest(name="study", styles=("study",), stride=8, precision="fp32", licence="Apache-2.0")
        found = {name: learned(name, settings, runs) for name in CANDIDATES}
        reference = milliseconds(onnx_from_generator(Johnson().eval(), manifest), folder)
        for name, (run, distance) in found.items():
            generator, _ = generator_from_run(run)
            latency = milliseconds(onnx_from_generator(generator, manifest), folder)
            weights = sum(p.numel() for p in generator.fold().parameters())  # type: ignore[operator]
            rows[name] = {
                "shape": CANDIDATES[name],
                "weights": weights,
                "milliseconds": latency,
                "times_faster": reference / latency,
                "distance": distance,
            }
            console.print(name, rows[name])
    write_json(output.with_suffix(".json"), header() | {"reference_milliseconds": reference, "candidates": rows})
    plot(output.with_suffix(".png"), rows)


if __name__ == "__main__":
    run_script(main)
