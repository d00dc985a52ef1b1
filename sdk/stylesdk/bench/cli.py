"""`stylesdk bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stylesdk.bench.report import Settings, run_bench
from stylesdk.cli import Device, Runtime, Threads, parse_size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    models: Annotated[list[str] | None, typer.Argument(help="Bundled styles or model files.")] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.")] = "640x480",
    frames: Annotated[int, typer.Option(min=10, help="Runs of each level, after warm-up. p99.9 takes 1000.")] = 100,
    fps: Annotated[float, typer.Option(min=1, max=1000, help="Frames a second of the camera.")] = 30.0,
    streams: Annotated[bool, typer.Option("--streams", help="Count the cameras that it keeps up with.")] = False,
    device: Device = "auto",
    runtime: Runtime = None,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
) -> None:
    """Measure latency: the runtime alone, Stylizer.run by stage, camera to sink. Says what limits you."""
    settings = Settings(parse_size(size), frames, fps, device, runtime, threads, streams)
    run_bench(models or ["starry_night"], settings, json, Console())
