"""How much a style flickers: warping error of video clips, and what sensor noise does to a still picture.

    python benchmarks/temporal.py starry_night --clip CLIP.mp4 --reference RUN --json benchmarks/results/temporal.json

- short, long: RMS difference of a frame and its predecessor, 1 and 5 frames before, warped to it by the motion of
  the *source* clip; of the styled clip over that of the source clip. 1 is as steady as the clip itself. Motion is
  dense inverse search (DIS); only pixels that its two directions agree on count, so what is hidden or new does not.
  Pairs of frames of which less than half is followed are hard cuts and left out. Squares are averaged over all
  pixels of a clip, so that a still moment does not decide.
- noise: the clip's first frame, twice, with sensor noise (Gaussian, sigma 2 of 255, rounded); RMS difference of the
  two styled pictures over that of the two inputs. With --smoothing, after STILL such frames each.
"""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from measures import Motion, motions, noisy, rms, warping_error
from model_files import Subject, all_subjects
from reports import Requirement, conclude, earlier_result, header, run_script
from rich.console import Console
from rich.table import Table

from stylesdk.frames import Frame
from stylesdk.live.smoothing import Smoother
from stylesdk.live.video import VideoSource

LAGS = {"short": 1, "long": 5}
STILL = 12  # frames after which smoothing has done what it can
WIDEST = 640  # pixels; flow on larger frames costs much and tells little
SHORT_LIMIT, REFERENCE_LIMIT = 3.0, 0.5
FIGURES = (*LAGS, "noise")
Figures = dict[str, float]


def read_clip(path: Path, frames: int) -> list[Frame]:
    """The first ``frames`` frames, scaled down to at most 640 pixels of width."""
    source = VideoSource(path)
    try:
        return [_narrowed(item.image) for item in islice(source, frames)]
    finally:
        source.close()


def _narrowed(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    if width <= WIDEST:
        return frame
    size = (WIDEST, round(height * WIDEST / width))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def measure(
    subject: Subject, frames: list[Frame], moved: dict[str, list[Motion]], source: Figures, smoothing: float = 0
) -> Figures:
    """Figures of one style on one clip, as multiples of the clip's own."""
    styled = steadied(subject, frames, smoothing)
    found = {name: warping_error(styled, moved[name]) / error for name, error in source.items() if error}
    count = STILL if smoothing else 1
    left, right = ([noisy(frames[0], first + i) for i in range(count)] for first in (0, count))
    ends = [steadied(subject, still, smoothing)[-1] for still in (left, right)]
    found["noise"] = rms(*ends) / rms(left[-1], right[-1])
    return found


def steadied(subject: Subject, frames: list[Frame], smoothing: float) -> list[Frame]:
    """A clip in style, and smoothed as the live path does it."""
    smoother = Smoother()
    return [smoother.smooth(*pair, smoothing) for pair in zip(frames, subject.run(frames), strict=True)]


def measure_clip(clip: Path, frames: int, subjects: list[Subject], smoothing: float = 0) -> dict[str, Any]:
    """Figures of all styles on one clip; its motion is found once."""
    pictures = read_clip(clip, frames)
    moved = {name: motions(pictures, lag) for name, lag in LAGS.items()}
    source = {name: warping_error(pictures, moved[name]) for name in LAGS}
    if not source["short"]:  # five frames on, fast movement may be lost: then that figure is missing
        raise typer.BadParameter(f"got: {clip}, {len(pictures)} frames, in which nothing can be followed or moves")
    height, width = pictures[0].shape[:2]
    return {
        "frames": len(pictures),
        "size": f"{width}x{height}",
        "cuts": len(pictures) - 1 - len(moved["short"]),
        "followed": float(np.mean([motion.followed.mean() for motion in moved["short"]])),
        "source_rms": source,
        "models": {subject.label: measure(subject, pictures, moved, source, smoothing) for subject in subjects},
    }


def requirements(report: dict[str, Any]) -> list[Requirement]:
    """What is asked of every style, on its worst clip."""
    clips = [clip["models"] for clip in report["clips"].values()]
    references = report["references"]
    lines = []
    for model in (model for model in clips[0] if model not in references.values()):
        worst = max(clip[model]["short"] for clip in clips)
        lines.append(Requirement(f"{model}: short over the source's", worst, SHORT_LIMIT))
        reference = references.get(report["styles"][model])
        if reference:
            worst = max(clip[model]["short"] / clip[reference]["short"] for clip in clips)
            lines.append(Requirement(f"{model}: short over the reference's", worst, REFERENCE_LIMIT))
    return lines


def main(
    models: Annotated[list[str], typer.Argument(help="Bundled styles, ONNX files or run folders.")],
    clip: Annotated[list[Path], typer.Option(help="Video file; may be given several times.")],
    reference: Annotated[list[str] | None, typer.Option(help="STYLE=RUN or STYLE=FILE: reference network.")] = None,
    references_from: Annotated[
        Path | None, typer.Option(help="Earlier result on the same clips: its references' figures, not measured anew.")
    ] = None,
    frames: Annotated[int, typer.Option(min=7, help="Frames of every clip, from its start.")] = 60,
    smoothing: Annotated[float, typer.Option(min=0, max=1, help="As `stylesdk webcam` takes it.")] = 0.0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Print short and long warping error and noise sensitivity of every style on every clip."""
    console = Console()
    if len({path.stem for path in clip}) < len(clip):
        raise typer.BadParameter("got: two clips of one name; expected: another name each, which figures are kept by")
    report = header() | {"smoothing": smoothing}
    earlier = earlier_result(references_from, ("references", "clips"), {}) if references_from else {}
    with tempfile.TemporaryDirectory() as folder:
        subjects = all_subjects(models, reference or [], Path(folder))
        report["styles"] = {subject.label: subject.style for subject in subjects if not subject.reference}
        report["references"] = {subject.style: subject.label for subject in subjects if subject.reference}
        report["clips"] = {path.stem: measure_clip(path, frames, subjects, smoothing) for path in clip}
    if earlier:
        _add_references(report, earlier)
    console.print(_table(report))
    conclude(console, requirements(report), report, output)


def _add_references(report: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Figures of the references of an earlier result, where it has as many frames of the same clips, as smooth."""
    clips = {name: earlier["clips"].get(name, {}) for name in report["clips"]}
    alike = [clips[name].get(key) == clip[key] for name, clip in report["clips"].items() for key in ("frames", "size")]
    if not all(alike) or earlier.get("smoothing", 0) != report["smoothing"]:
        typer.echo("No references: the earlier result has other clips, numbers of frames, or smoothing.", err=True)
        return
    for style, label in earlier["references"].items():
        if style not in report["references"]:
            report["references"][style] = label
            for name, clip in report["clips"].items():
                clip["models"][label] = clips[name]["models"][label]


def _table(report: dict[str, Any]) -> Table:
    table = Table("clip", "model", *(f"{figure} x" for figure in FIGURES))
    for name, clip in report["clips"].items():
        source = "source, " + ", ".join(
            f"{lag} {value:.1f} of 255" for lag, value in clip["source_rms"].items() if value
        )
        table.add_row(f"{name}, {clip['frames']} of {clip['size']}", source, "1", "1", "1")
        for model, figures in clip["models"].items():
            table.add_row("", model, *(f"{figures[figure]:.2f}" if figure in figures else "" for figure in FIGURES))
        table.add_section()
    return table


if __name__ == "__main__":
    run_script(main)
