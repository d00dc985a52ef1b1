"""Hours of a live show in minutes: everything that changes while it runs changes, and nothing may grow.

    python benchmarks/soak.py --minutes 10 --json benchmarks/results/soak.json
    python benchmarks/soak.py --minutes 420         # seven hours, a night of an installation

A real pipeline over the test pattern. By the clock it switches between six styles, changes strength, smoothing, the
photo's colours and the size of its frames, loses its camera (the watchdog shows cards and opens it again), and records
in between. Memory, threads and open files are sampled every second. Ends with exit code 1 where something is missed.
"""

from __future__ import annotations

import tempfile
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from reports import Requirement, conclude, header, run_script
from rich.console import Console
from watching import Samples, Watching, more_at_the_end

from stylesdk import SourceError, Stylizer
from stylesdk.frames import Frame
from stylesdk.live import Look, SourceFrame, clock, run_pipeline
from stylesdk.live.memory import keep_memory_flat
from stylesdk.live.pattern import PatternSource
from stylesdk.live.recorder import Recorder
from stylesdk.live.sinks import NullSink
from stylesdk.live.watchdog import WatchedSource

SIZES = ((640, 480), (320, 240), (480, 360), (641, 479))
STRENGTHS = (1.0, 0.6, 0.3)
SMOOTHINGS = (0.0, 0.5, 1.0)
SHARE = 0.1  # of the run, at its begin (after warm-up) and at its end, that is compared
WARM = 0.3  # share of the run that warms up: every size, style and recording has come several times


@dataclass(frozen=True)
class Script:
    """Seconds between two changes of each kind, and how long a loss and a recording take."""

    style: float = 7.0
    strength: float = 5.0
    smoothing: float = 11.0
    color: float = 13.0
    size: float = 17.0
    loss: float = 29.0
    loss_for: float = 2.0
    record: float = 23.0
    record_for: float = 8.0


class Camera:
    """A camera that shows the test pattern, in other sizes by the clock, and is unplugged from time to time.

    ``open`` and iteration are those of a device that the SDK's own watchdog looks after.
    """

    size = (SIZES[0][1], SIZES[0][0])
    late: float | None = None

    def __init__(self, fps: int, script: Script) -> None:
        self.fps: Fraction | None = Fraction(fps)
        self.description = "soak"
        self.opened = 0
        self._script, self._start = script, clock.now()

    def open(self) -> Camera:
        if self._unplugged():
            raise SourceError("the camera, unplugged", do="wait")
        self.opened += 1
        return self

    def __iter__(self) -> Iterator[Frame]:
        while True:
            turn = self._turn()
            for frame in PatternSource(*SIZES[turn % len(SIZES)], None, fps=self.fps or Fraction(0)):
                if self._unplugged():
                    raise SourceError("the camera, unplugged while it was read")
                yield frame.image
                if self._turn() != turn:
                    break

    def close(self) -> None:
        """Nothing is held open."""

    def _turn(self) -> int:
        return int((clock.now() - self._start) / self._script.size)

    def _unplugged(self) -> bool:
        now = clock.now() - self._start
        return now % self._script.loss > self._script.loss - self._script.loss_for


class RecordingSink(NullSink):
    """Keeps every frame's age, and records from time to time, as the script says."""

    def __init__(self, folder: Path, fps: int, script: Script) -> None:
        self.moments, self.ages = array("d"), array("d")  # seconds since the start, seconds
        self.recordings = self.bytes = 0
        self._start = clock.now()
        self._path, self._fps, self._script = folder / "soak.mp4", Fraction(fps), script
        self._recorder: Recorder | None = None

    def write(self, image: Frame, frame: SourceFrame) -> None:
        now = clock.now()
        if frame.signal:
            self.moments.append(now - self._start)
            self.ages.append(now - frame.captured)
        wanted = (now - self._start) % self._script.record > self._script.record - self._script.record_for
        if wanted and self._recorder is None:
            self._recorder = Recorder(self._path, self._fps, live=True)
        elif not wanted:
            self._finish()
        if self._recorder is not None:
            self._recorder.put(image, frame)

    def _finish(self) -> None:
        if self._recorder is None:
            return
        self._recorder.end()
        if not self._recorder.wait() or self._recorder.error:
            raise self._recorder.error or TimeoutError("a recording that hangs")
        self._recorder = None
        self.recordings += 1
        self.bytes += self._path.stat().st_size

    def close(self, *, complete: bool = True) -> None:  # noqa: ARG002
        self._finish()


class Player:
    """Changes the look by the clock: the ``on_frame`` of the pipeline."""

    def __init__(self, look: Look, script: Script) -> None:
        self._look, self._script, self._start = look, script, clock.now()

    def __call__(self, _: object) -> None:
        now, script, look = clock.now() - self._start, self._script, self._look
        look.style = {look.styles[int(now / script.style) % len(look.styles)]: 1.0}
        look.strength = STRENGTHS[int(now / script.strength) % len(STRENGTHS)]
        look.smoothing = SMOOTHINGS[int(now / script.smoothing) % len(SMOOTHINGS)]
        look.keep_color = bool(int(now / script.color) % 2)


def p99_over_time(moments: Sequence[float], ages: Sequence[float], seconds: float) -> tuple[float, float]:
    """Milliseconds: p99 of the first share after warm-up, and of the last one."""
    when, values = np.asarray(moments), np.asarray(ages) * 1e3
    first = values[(when >= WARM * seconds) & (when < (WARM + SHARE) * seconds)]
    last = values[when >= (1 - SHARE) * seconds]
    p99 = [float(np.percentile(part, 99)) if len(part) else 0.0 for part in (first, last)]
    return p99[0], p99[1]


def requirements(samples: Samples, first: float, last: float) -> list[Requirement]:
    """What is asked of the samples, and of the p99 of ages in milliseconds at first and at last."""
    return [
        Requirement("memory after warm-up, MiB a minute", max(samples.growth(WARM), 0.0), 1),
        Requirement("threads, more at the end", more_at_the_end(samples.threads), 0),
        Requirement("open files, more at the end", more_at_the_end(samples.files), 0),
        Requirement("p99 of ages, the last tenth over the first", last / first if first else 0.0, 1.2, 0.01),
    ]


def happened(frames: int, opened: int, recordings: int, script: Script, seconds: float, fps: int) -> list[Requirement]:
    """What is asked of the show itself: frames while there was a camera, each of the losses, and the recordings."""
    there = 1 - script.loss_for / script.loss
    return [
        Requirement(
            "frames that came, of those that the camera could give", frames / (seconds * fps * there), None, 0.5
        ),
        Requirement("times that the camera was opened", opened, None, 1 + (seconds - script.loss_for) // script.loss),
        Requirement("recordings that were finished", recordings, None, seconds // script.record),
    ]


def main(
    model: Annotated[str, typer.Argument(help="A model of several styles.")] = "six",
    minutes: Annotated[float, typer.Option(min=0.02)] = 10.0,
    fps: Annotated[int, typer.Option(min=1, max=240)] = 30,
    faster: Annotated[float, typer.Option(min=1, help="Times faster through the script.")] = 1.0,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime, openvino, ...")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Run the show, and say what grew."""
    keep_memory_flat()
    script = Script(**{name: value / faster for name, value in asdict(Script()).items()})
    report: dict[str, Any] = header() | {"model": model, "minutes": minutes, "fps": fps, "script": asdict(script)}
    with Stylizer(model, runtime=runtime) as stylizer, tempfile.TemporaryDirectory() as folder:
        report["backend"] = stylizer.backend
        look, camera = Look(styles=stylizer.styles), Camera(fps, script)
        sink, player, over = RecordingSink(Path(folder), fps, script), Player(look, script), threading.Event()
        timer = threading.Timer(60 * minutes, over.set)  # not by the frames: there may be none any more
        timer.daemon = True
        with Watching() as samples:
            source = WatchedSource("soak", "camera", camera.open, give_up=30)
            timer.start()
            counts = run_pipeline(source, stylizer, sink, look=look, on_frame=player, stop=over)
    first, last = p99_over_time(sink.moments, sink.ages, 60 * minutes)
    report |= {
        "frames": {"read": counts.read, "delivered": counts.delivered, "cards": counts.cards},
        "opened": camera.opened,
        "recordings": sink.recordings,
        "recorded_bytes": sink.bytes,
        "age_ms": {"first": first, "last": last} | asdict(counts.stages["age"].run),
        "samples": asdict(samples),
    }
    found = requirements(samples, first, last)
    found += happened(counts.delivered - counts.cards, camera.opened, sink.recordings, script, 60 * minutes, fps)
    conclude(Console(), found, report, output)
    if not all(line.met for line in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    run_script(main)
