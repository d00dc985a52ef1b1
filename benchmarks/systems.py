"""Every recipe of the trainer in one table, on photos that training never saw.

    python benchmarks/systems.py hybrid=starry_night johnson=RUN stylebank=MODEL.onnx:starry_night gatys=optimize \
        --photos DIR --artworks DIR --clip CLIP.mp4 --json benchmarks/results/systems.json --sheet sheet.jpg

A system is LABEL=MODEL: a bundled style, an ONNX file (FILE:STYLE or FILE:PICTURE), or a run folder; `optimize` is
Gatys' own search for the picture, in the style of the first system. Photos have 256 pixels on the short side,
artworks 320.

- content, style: as in quality.py (optimum.py has the formulas), against ``artworks``/STYLE.jpg; medians over photos.
- tv: mean squared difference of neighbours, both axes, of 0-1 pixels; over the photo's own, median.
- artfid: (1 + d) (1 + f), as ArtFID (Wright & Ommer 2022), with another network: VGG-19 of the perceptual loss instead
  of AlexNet and Inception. d: distance of channel-normalised activations at relu1_2, relu2_2, relu3_3 between photo and
  output, summed over channels, averaged over places and layers (LPIPS, Zhang et al. 2018, without learned weights).
  f: Frechet distance between Gaussians of the mean relu3_3 activations of 64-pixel patches of all outputs and of the
  artwork, over the same distance between photos and artwork: 1 is no nearer to the artwork than the photos are.
- flicker: short warping error over the clip's own, as in temporal.py.
- ms: p50 and p99 of `Stylizer.run` at 640x480 on onnxruntime, all systems in turns; of `optimize` seconds a picture.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from measures import motions, warping_error
from model_files import Subject, subjects_of
from numpy.typing import NDArray
from optimum import ARTWORK_SIDE, PHOTO_SIDE, Judge, tensor_from_bgr
from pictures import one_of_a_kind, photos_from, sheet, write_picture
from reports import header, run_script, write_json
from rich.console import Console
from rich.table import Table
from temporal import read_clip
from torch import Tensor

from stylesdk.bench import bench_frame
from stylesdk.frames import Frame
from stylesdk.latency import percentiles
from styletrainer.data.crops import read_artwork, rgb_from_tensor, scaled
from styletrainer.losses import total_variation
from styletrainer.optimize.gatys import Settings, Source, paint
from styletrainer.perceptual import load_weight_sets
from styletrainer.run.devices import computes_bf16

LPIPS_LAYERS = ("relu1_2", "relu2_2", "relu3_3")
PATCH_LAYER, PATCH = "relu3_3", 64
SIZE = (480, 640)
ROUNDS, FRAMES, WARM_UP = 3, 12, 3
COLUMNS = ("content", "style", "tv", "artfid", "flicker")
OPTIMIZE = "optimize"
Figures = dict[str, Any]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Frechet:
    """A Gaussian of patch descriptors: mean (C,) and covariance (C, C)."""

    mean: Matrix
    covariance: Matrix

    @classmethod
    def of(cls, descriptors: Matrix) -> Frechet:
        """Of descriptors (N, C)."""
        return cls(descriptors.mean(0), np.cov(descriptors, rowvar=False))

    def distance(self, other: Frechet) -> float:
        """Frechet distance (Dowson & Landau 1982): |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2)."""
        # The eigenvalues of a product of covariances are real and not negative; rounding makes them nearly so.
        roots = np.sqrt(np.clip(np.linalg.eigvals(self.covariance @ other.covariance).real, 0, None)).sum()
        spread = np.trace(self.covariance) + np.trace(other.covariance) - 2 * roots
        return float(np.square(self.mean - other.mean).sum() + spread)


class Looks:
    """Judges outputs for ``photos`` against one artwork. Frames are BGR uint8 of the size that they are judged in."""

    def __init__(self, judge: Judge, photos: Sequence[Frame], artwork: Frame) -> None:
        self.judge, self.photos = judge, photos
        self.style = judge.style(artwork)
        self.artwork = Frechet.of(self._patches([artwork], step=16))
        self.far = Frechet.of(self._patches(photos)).distance(self.artwork)

    def figures(self, outputs: Sequence[Frame]) -> Figures:
        """Medians over photos of content, style, tv; and artfid with its two parts."""
        losses = [
            self.judge.objective(p, self.style).loss(tensor_from_bgr(o))
            for p, o in zip(self.photos, outputs, strict=True)
        ]
        smooth = [
            float(total_variation(tensor_from_bgr(o)) / total_variation(tensor_from_bgr(p)))
            for p, o in zip(self.photos, outputs, strict=True)
        ]
        kept = float(np.mean([self._lpips(p, o) for p, o in zip(self.photos, outputs, strict=True)]))
        near = Frechet.of(self._patches(outputs)).distance(self.artwork) / self.far
        return {
            "content": float(np.median([loss.content for loss in losses])),
            "style": float(np.median([loss.style for loss in losses])),
            "tv": float(np.median(smooth)),
            "artfid": (1 + kept) * (1 + near),
            "distance_to_photo": kept,
            "distance_to_artwork": near,
        }

    @torch.no_grad()
    def _lpips(self, photo: Frame, output: Frame) -> float:
        left, right = (self._activations(frame, LPIPS_LAYERS) for frame in (photo, output))
        pairs = ((F.normalize(left[x], dim=1), F.normalize(right[x], dim=1)) for x in LPIPS_LAYERS)
        return float(torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean())

    @torch.no_grad()
    def _patches(self, frames: Sequence[Frame], step: int = 32) -> Matrix:
        """Mean activations (N, C) of patches every ``step`` pixels."""
        scale = 4  # relu3_3 is on a grid of 4 pixels
        found = []
        for frame in frames:
            pooled = F.avg_pool2d(self._activations(frame, (PATCH_LAYER,))[PATCH_LAYER], PATCH // scale, step // scale)
            found.append(pooled[0].flatten(1).T.double().numpy())
        return np.concatenate(found)

    def _activations(self, frame: Frame, layers: Sequence[str]) -> dict[str, Tensor]:
        return self.judge.perceptual.full(tensor_from_bgr(frame), layers)  # type: ignore[misc, no-any-return]


def flicker(subject: Subject, clip: Path, frames: int) -> float:
    """Short warping error of the styled clip over the clip's own."""
    pictures = read_clip(clip, frames)
    moved = motions(pictures, 1)
    return warping_error(subject.run(pictures), moved) / warping_error(pictures, moved)


def latencies(subjects: dict[str, Subject]) -> Figures:
    """p50 and p99 of every system, in ms; rounds in turns, one session alive at a time."""
    frame = bench_frame(SIZE)
    seconds: dict[str, list[float]] = {label: [] for label in subjects}
    for _ in range(ROUNDS):
        for label, subject in subjects.items():
            with subject.open() as stylizer:
                for turn in range(WARM_UP + FRAMES):
                    start = time.perf_counter()
                    stylizer.run(frame)
                    if turn >= WARM_UP:
                        seconds[label].append(time.perf_counter() - start)
    return {label: {"p50": percentiles(found).p50, "p99": percentiles(found).p99} for label, found in seconds.items()}


def optimized(pictures: Sequence[Frame], artwork: Frame, vgg: Sequence[Path]) -> list[Frame]:
    """Every picture as `stylesdk optimize` paints it with its own settings, in its own size."""
    weight_sets, source = load_weight_sets(vgg), Source(np.ascontiguousarray(artwork[:, :, ::-1]))
    found = []
    for picture in pictures:
        settings = Settings(size=max(picture.shape[:2]), bf16=computes_bf16("cpu"))
        photo = np.ascontiguousarray(picture[:, :, ::-1])
        *_, last = paint(weight_sets, photo, [source], settings, torch.device("cpu"))
        found.append(np.ascontiguousarray(rgb_from_tensor(last.picture)[:, :, ::-1]))
    return found


def main(
    systems: Annotated[list[str], typer.Argument(help="LABEL=MODEL; MODEL is a name, a file, a run, or `optimize`.")],
    photos: Annotated[Path, typer.Option(help="Folder of photographs that training never saw.")],
    artworks: Annotated[Path, typer.Option(help="Folder of STYLE.jpg.")],
    clip: Annotated[Path | None, typer.Option(help="Video to measure flicker on.")] = None,
    frames: Annotated[int, typer.Option(help="Frames of the clip.")] = 16,
    vgg: Annotated[list[Path] | None, typer.Option(help="Perceptual weights, as in training.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    sheet_path: Annotated[
        Path | None, typer.Option("--sheet", help="Picture: a photo of every kind, every system.")
    ] = None,
) -> None:
    """Print the figures of every system."""
    console, judge = Console(), Judge(vgg or [])
    shown = photos_from(photos, 12)
    pictures = [np.ascontiguousarray(scaled(photo.frame, PHOTO_SIDE)) for photo in shown]
    columns, found = {"photo": pictures}, {}
    with tempfile.TemporaryDirectory() as folder:
        subjects = {
            label: subjects_of(model, Path(folder))[0] for label, model in map(_split, systems) if model != OPTIMIZE
        }
        default = next(iter(subjects.values())).style
        for label, _ in map(_split, systems):
            subject = subjects.get(label)
            style = subject.style if subject else default
            artwork = np.ascontiguousarray(read_artwork(artworks / f"{style}.jpg", ARTWORK_SIDE, 1)[:, :, ::-1])
            start = time.perf_counter()
            columns[label] = subject.run(pictures) if subject else optimized(pictures, artwork, vgg or [])
            seconds = (time.perf_counter() - start) / len(pictures)
            found[label] = {"style_of": style, **Looks(judge, pictures, artwork).figures(columns[label])}
            if subject is None:
                found[label]["seconds_a_picture"] = seconds
            elif clip:
                found[label]["flicker"] = flicker(subject, clip, frames)
            console.print(label, found[label], highlight=False)
        for label, times in latencies(subjects).items():
            found[label]["ms"] = times
    console.print(_table(found))
    if output:
        write_json(output, header() | {"photos": [photo.name for photo in shown], "systems": found})
    if sheet_path:
        rows = one_of_a_kind(shown)
        write_picture(sheet_path, sheet({label: [column[i] for i in rows] for label, column in columns.items()}))


def _split(text: str) -> tuple[str, str]:
    label, sign, model = text.partition("=")
    if not sign:
        raise typer.BadParameter(f"got: {text}; expected: LABEL=MODEL, such as johnson=RUN")
    return label, model


def _table(found: dict[str, Figures]) -> Table:
    table = Table("system", *COLUMNS, "ms p50", "s a picture")
    for label, figures in found.items():
        cells = [f"{figures[name]:.3f}" if name in figures else "" for name in COLUMNS]
        cells.append(f"{figures['ms']['p50']:.0f}" if "ms" in figures else "")
        cells.append(f"{figures['seconds_a_picture']:.1f}" if "seconds_a_picture" in figures else "")
        table.add_row(label, *cells)
    return table


if __name__ == "__main__":
    run_script(main)
