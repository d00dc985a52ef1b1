"""The live pipeline: how old a frame is when it is shown, and what the pipeline itself costs.

    python benchmarks/live.py --minutes 5 --json benchmarks/results/live.json

Three parts. *Age*: a sink that takes ten frame times for every frame, for some minutes; a frame's age when it is
handed over, in frame times, must not grow, nor must memory. *Latency* without optics: the sink reads from the pixels
when a frame was made. *Overhead*: frames a second through capture, style and deliver, against `Stylizer.run` alone on
the same frame, in turns.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from reports import Requirement, conclude, header, run_script
from rich.console import Console
from watching import Watching

from stylesdk import Stylizer
from stylesdk.bench import bench_frame
from stylesdk.bench.camera import WARM_UP, flat_out
from stylesdk.cli import parse_size
from stylesdk.frames import Frame
from stylesdk.latency import percentiles
from stylesdk.live import Look, SourceFrame, clock, run_pipeline
from stylesdk.live.pattern import PatternSource
from stylesdk.live.sinks import NullSink
from stylesdk.live.stamp import read_stamp

SLOWER = 10  # times than the source
STRENGTH = 0.5  # half the style costs as much as all of it, and leaves every style's stamps readable
WARM = 0.2  # share of a run that memory needs to settle


class SlowSink(NullSink):
    """Takes ``seconds`` for each frame; keeps how old each was when it came."""

    def __init__(self, seconds: float) -> None:
        self.ages: list[float] = []
        self._seconds = seconds

    def write(self, image: Frame, frame: SourceFrame) -> None:  # noqa: ARG002
        self.ages.append(clock.now() - frame.captured)
        time.sleep(self._seconds)


class ReadingSink(NullSink):
    """Reads from each frame when it was made; keeps how long ago that was."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.unreadable = 0

    def write(self, image: Frame, frame: SourceFrame) -> None:  # noqa: ARG002
        now, stamp = clock.now(), read_stamp(image)
        if stamp is None:
            self.unreadable += 1
        else:
            self.ages.append(now - stamp.seconds)


def age(stylizer: Stylizer, size: tuple[int, int], fps: int, minutes: float) -> dict[str, Any]:
    """Ages in frame times at a sink that is ten times slower than the source, and memory meanwhile."""
    sink = SlowSink(SLOWER / fps)
    source = PatternSource(size[1], size[0], max(round(60 * minutes * fps), SLOWER * 4))
    with Watching() as samples:
        counts = run_pipeline(source, stylizer, sink)
    frames = np.array(sink.ages[1:]) * fps  # the first one warms up
    third = max(len(frames) // 3, 1)
    return {
        "frame_times": {
            "p50": float(np.median(frames)),
            "p99": float(np.percentile(frames, 99)),
            "worst": frames.max(),
        },
        "last_third_over_first": float(np.median(frames[-third:]) / np.median(frames[:third])),
        "delivered": counts.delivered,
        "dropped": {"before the style": counts.unstyled, "after it": counts.unshown},
        "limit": counts.limit,
        "mib_a_minute": samples.growth(WARM),
    }


def latency(stylizer: Stylizer, size: tuple[int, int], frames: int) -> dict[str, Any]:
    """Milliseconds from drawing a frame to reading it in the sink, of ``frames`` paced ones, after warm-up."""
    sink = ReadingSink()
    source = PatternSource(size[1], size[0], WARM_UP + frames)
    counts = run_pipeline(source, stylizer, sink, look=Look(STRENGTH))
    read = percentiles(sink.ages[WARM_UP:])
    stages = {stage: asdict(timing.run) for stage, timing in counts.stages.items()}
    return {"milliseconds": asdict(read), "unreadable": sink.unreadable, "dropped": counts.dropped, "stages": stages}


def overhead(stylizer: Stylizer, frame: Frame, rounds: int, frames: int) -> dict[str, Any]:
    """Frames a second alone and through the pipeline, a figure a round, and the median of their ratios less 1."""
    alone, through = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(frames):
            stylizer.run(frame)
        alone.append(frames / (time.perf_counter() - start))
        through.append(flat_out(stylizer, frame, frames))
    share = statistics.median(a / b for a, b in zip(alone, through, strict=True)) - 1
    return {"alone": alone, "through_the_pipeline": through, "overhead": share}


def main(
    model: Annotated[str, typer.Argument(help="Bundled style or model file.")] = "starry_night",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT")] = "640x480",
    fps: Annotated[int, typer.Option(min=1, max=240, help="Of the source, while ages are measured.")] = 30,
    minutes: Annotated[float, typer.Option(min=0, help="How long ages are measured.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    frames: Annotated[int, typer.Option(min=1, help="Frames a round; the latency's are five times as many.")] = 100,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime, openvino, ...")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure age, latency without optics, and what the pipeline costs."""
    console, shape = Console(), parse_size(size)
    report: dict[str, Any] = header() | {"model": model, "size": size, "fps": fps, "minutes": minutes}
    with Stylizer(model, runtime=runtime) as stylizer:
        report["backend"] = stylizer.backend
        for _ in range(WARM_UP):
            stylizer.run(bench_frame(shape))
        report["overhead"] = overhead(stylizer, bench_frame(shape), rounds, frames)
        report["latency"] = latency(stylizer, shape, 5 * frames)
        report["age"] = age(stylizer, shape, fps, minutes)
    read = report["latency"]["milliseconds"]
    console.print(f"pixels in to pixels out: median {read['p50']:.1f} ms, p99 {read['p99']:.1f} ms", highlight=False)
    lines = [
        Requirement(
            "pipeline against Stylizer.run alone, share of time", max(report["overhead"]["overhead"], 0.0), 0.05
        ),
        Requirement("stamps that could not be read", report["latency"]["unreadable"], 0),
        Requirement("age before a slow sink, frame times, p99", report["age"]["frame_times"]["p99"], 2),
        Requirement("memory, MiB a minute more", max(report["age"]["mib_a_minute"], 0.0), 1),
    ]
    conclude(console, lines, report, output)


if __name__ == "__main__":
    run_script(main)
