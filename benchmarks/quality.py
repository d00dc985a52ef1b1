"""How a style looks, in figures, and a sheet to look at.

    python benchmarks/quality.py starry_night --photos DIR --artworks DIR --reference starry_night=RUN \
        --json benchmarks/results/quality.json --sheet sheet.png

At the photo's own size, medians over photos:

- grid: luma minus its Gaussian blur (sigma 3) is the detail; the mean of the detail over all cells of p x p pixels is a
  pattern; its standard deviation over the detail's, worst of p = 2, 4, 8. Photographs have about 0.02,
  paintings 0.01.
- border: standard deviation of the detail in the outer 16 pixels over that of the inside, as a multiple of the same
  figure of the photo: 1 is no frame. Photos with a plain margin, which have no such figure, are left out of it.
- halo: what the coarse colours (Gaussian blur, sigma 4) owe to the photo being lighter there than around (sigma 12),
  beyond what its own lightness and being darker explain: RMS over pixels and colours, of 255.
- edges: SSIM of the Sobel edge maps of the photo's and the styled luma.
- fp16, int8: largest and mean difference of the model converted to fp16, of NAME.int8.onnx, to the fp32 file, of 255.

At 256 pixels on the short side, with --artworks: loss, and loss over its optimum (see optimum.py), per photo; and
in_larger: the loss of the same photo where it lies in the middle of a larger one, its own mirror image, over that.
There no network sees a border: above 1 it draws better where it does, and small photos promise what large ones lack.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from measures import PLAIN, border, edge_ssim, grid, halo, noisy
from model_files import Subject, all_subjects
from optimum import ARTWORK_SIDE, PHOTO_SIDE, Cache, Judge, Loss, Objective, tensor_from_bgr
from pictures import Photo, one_of_a_kind, photos_from, sheet, write_picture
from quality_requirements import not_comparable, requirements
from reports import conclude, earlier_result, header, run_script
from rich.console import Console
from rich.table import Table

from styleexport.fp16_from_onnx import fp16_from_onnx
from styleexport.verify import compare
from stylesdk.frames import Frame
from styletrainer.data.crops import read_artwork, scaled

AROUND = 160  # pixels, more than any of our networks sees
CACHE = Path(__file__).parent / "results" / "optimum.json"
Figures = dict[str, Any]


@dataclass(frozen=True)
class Losses:
    """Losses of styled photos against ``artworks``/STYLE.jpg, and the optima, what is known taken from the cache."""

    photos: list[Photo]
    artworks: Path
    judge: Judge
    cache: Cache
    search: bool  # optima that are not known
    console: Console

    def figures(self, subject: Subject) -> Figures:
        """Loss and its parts, medians; loss over the optimum by photo. Empty without the style's artwork."""
        path = self.artworks / f"{subject.style}.jpg"
        if not path.is_file():
            self.console.print(f"no loss of {subject.label}: no {path}", style="yellow", highlight=False)
            return {}
        artwork = np.ascontiguousarray(read_artwork(path, ARTWORK_SIDE, 1)[:, :, ::-1])
        style = self.judge.style(artwork)
        frames = [scaled(photo.frame, PHOTO_SIDE) for photo in self.photos]
        losses, inside, ratios = [], [], {}
        pictures = zip(self.photos, frames, subject.run(frames), in_larger(subject, frames), strict=True)
        for photo, frame, styled, styled_inside in pictures:
            objective = self.judge.objective(frame, style)
            losses.append(objective.loss(tensor_from_bgr(styled)))
            inside.append(objective.loss(tensor_from_bgr(styled_inside)).total / losses[-1].total)
            best = self._optimum(objective, frame, artwork, f"{subject.style}, {photo.name}")
            if best is not None:
                ratios[photo.name] = losses[-1].total / best.total
        return {"loss": _medians(losses), "over_optimum": _spread(ratios), "in_larger": float(np.median(inside))}

    def _optimum(self, objective: Objective, photo: Frame, artwork: Frame, what: str) -> Loss | None:
        best = self.cache.get(photo, artwork)
        if best is None and self.search:
            start = time.perf_counter()
            best = objective.optimum()
            self.cache.put(photo, artwork, best, what)
            self.console.print(f"optimum of {what}: {best.total:.3f}, {time.perf_counter() - start:.0f} s")
        return best


def in_larger(subject: Subject, photos: list[Frame]) -> list[Frame]:
    """The photos styled as the middle of larger ones, which mirror them."""
    sides = ((AROUND, AROUND), (AROUND, AROUND), (0, 0))
    styled = subject.run([np.pad(photo, sides, mode="reflect") for photo in photos])
    return [picture[AROUND:-AROUND, AROUND:-AROUND] for picture in styled]


def _medians(losses: list[Loss]) -> Figures:
    return {part: float(np.median([getattr(x, part) for x in losses])) for part in ("total", "content", "style")}


def _spread(ratios: dict[str, float]) -> Figures | None:
    if not ratios:
        return None
    return {"median": float(np.median(list(ratios.values()))), "worst": max(ratios.values()), "photos": ratios}


def appearance(photos: list[Frame], styled: list[Frame]) -> Figures:
    """Grid, border, halo and edges, medians over photos."""
    pairs = list(zip(photos, styled, strict=True))
    borders = [border(picture) / own for photo, picture in pairs if (own := border(photo)) > PLAIN]
    return {
        "grid": float(np.median([grid(picture) for picture in styled])),
        "border": float(np.median(borders)),
        "halo": float(np.median([halo(photo, picture) for photo, picture in pairs])),
        "edges": float(np.median([edge_ssim(photo, picture) for photo, picture in pairs])),
    }


def precisions(subject: Subject, photos: list[Frame], styled: list[Frame], folder: Path) -> Figures:
    """Largest and mean difference of the fp16 and int8 models to the fp32 one; and how int8 looks by itself."""
    if subject.reference or subject.manifest.precision != "fp32":
        return {}
    half = folder / f"{subject.path.stem}.fp16.onnx"
    half.write_bytes(fp16_from_onnx(subject.path.read_bytes(), str(subject.path)))
    files = {"fp16": half, "int8": subject.path.with_name(f"{subject.path.stem}.int8.onnx")}
    figures: Figures = {}
    for name, path in files.items():
        if path.is_file():
            pictures = replace(subject, path=path).run(photos)
            found = compare(styled, pictures)
            looks = appearance(photos, pictures) if name == "int8" else {}
            figures[name] = {"max": found.max, "mean": found.mean, **looks}
    return figures


def of_photos(photos: list[Frame]) -> Figures:
    """What the figures are without any style: of the photos, of noise, of another photo of the same size."""
    pairs = [(x, y) for i, x in enumerate(photos) for y in photos[:i] if x.shape == y.shape]
    return {
        "grid": float(np.median([grid(photo) for photo in photos])),
        "halo": float(np.median([halo(photo, photo) for photo in photos])),
        "edges_with_noise": float(np.median([edge_ssim(photo, noisy(photo, 0)) for photo in photos])),
        "edges_of_another": float(np.median([edge_ssim(*pair) for pair in pairs])) if pairs else None,
    }


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photographs that training never saw.")],
    models: Annotated[list[str] | None, typer.Argument(help="Bundled styles, ONNX files or run folders.")] = None,
    artworks: Annotated[Path | None, typer.Option(help="Folder of STYLE.jpg: measure the loss, too.")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="STYLE=RUN or STYLE=FILE: reference network.")] = None,
    references_from: Annotated[
        Path | None,
        typer.Option(help="Earlier result, same photos and perceptual weights: its references' figures, not anew."),
    ] = None,
    vgg: Annotated[list[Path] | None, typer.Option(help="Perceptual weights, as in training.")] = None,
    only_cached: Annotated[bool, typer.Option("--only-cached", help="Search no optimum that is not known.")] = False,
    count: Annotated[int, typer.Option(min=1, help="Photos, spread over a folder without the held-out ones.")] = 20,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    sheet_path: Annotated[Path | None, typer.Option("--sheet", help="PNG: a photo of every kind, every style.")] = None,
) -> None:
    """Print the figures of every style."""
    console = Console(emoji=False)  # "six:wave:" is a style, not a hand that waves
    if artworks and not artworks.is_dir():
        raise typer.BadParameter(f"got: --artworks {artworks}, no folder; expected: one with STYLE.jpg of every style")
    pictures = photos_from(photos, count)
    frames = [photo.frame for photo in pictures]
    if not any(border(frame) > PLAIN for frame in frames):
        raise typer.BadParameter(f"got: {photos}, photos with plain margins or of 32 pixels; expected: photographs")
    losses = None
    if artworks:
        judge = Judge(vgg or [])
        losses = Losses(pictures, artworks, judge, Cache(CACHE, judge.weights), not only_cached, console)
    same = {"photos": [photo.name for photo in pictures]} | ({"perceptual_weights": judge.weights} if losses else {})
    earlier = _references(references_from, same) if references_from else {}
    report = header() | same | {"of_photos": of_photos(frames), "models": {}}
    rows = one_of_a_kind(pictures)
    columns: dict[str, Sequence[Frame]] = {"photo": [frames[row] for row in rows]}
    with tempfile.TemporaryDirectory() as folder:
        for subject in all_subjects(models or ["starry_night"], reference or [], Path(folder)):
            styled = subject.run(frames)
            columns[subject.label] = [styled[row] for row in rows]
            found = subject.card() | appearance(frames, styled) | precisions(subject, frames, styled, Path(folder))
            report["models"][subject.label] = found | (losses.figures(subject) if losses else {})
    anew = {found["style"] for found in report["models"].values() if found["reference"]}
    report["models"] |= {name: found for name, found in earlier.items() if found["style"] not in anew}
    report["not_comparable"] = not_comparable(report["models"])
    console.print(_table(report["models"]))
    console.print(*(f"not comparable with its reference: {line}" for line in report["not_comparable"]), sep="\n")
    conclude(console, requirements(report["models"]), report, output)
    if sheet_path:
        write_picture(sheet_path, sheet(columns))


def _references(path: Path, same: Figures) -> Figures:
    """Figures of the reference networks of an earlier result that agrees in ``same``, by label."""
    models = earlier_result(path, ("models", *same), same)["models"]
    found = {name: figures for name, figures in models.items() if figures["reference"]}
    if "perceptual_weights" in same and (without := [name for name, figures in found.items() if "loss" not in figures]):
        raise typer.BadParameter(f"got: {path}, without losses of {', '.join(without)}; expected: made with --artworks")
    return found


def _table(models: Figures) -> Table:
    rows = ("grid", "border", "halo", "edges", "fp16 mean", "int8 mean", "loss total", "loss content", "loss style")
    table = Table("figure", *models)
    table.add_row("images seen", *(f"{found['images']:,}" if found["images"] else "" for found in models.values()))
    for row in (*rows, "over_optimum median", "over_optimum worst", "in_larger"):
        table.add_row(row.replace("_", " "), *(_text(found, row.split()) for found in models.values()))
    return table


def _text(figures: Figures, keys: list[str]) -> str:
    """The figure behind these keys, empty where it was not measured."""
    value: Any = figures
    for key in keys:
        value = (value or {}).get(key)
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run_script(main)
