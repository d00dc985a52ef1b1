"""`stylesdk compare`: several runs on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor, nn

from styletrainer import losses
from styletrainer.config import TrainConfig, config_from_run
from styletrainer.data.crops import read_artwork, rgb_from_tensor, sample_photos, tensor_from_rgb
from styletrainer.data.photos import ARCHIVES, Photo, list_photos
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator, with_margin
from styletrainer.pages.report import charts, read_stats, sheet_of, shown, write_page
from styletrainer.perceptual import Perceptual, load_weight_sets
from styletrainer.run.checkpoint import WEIGHTS, load_weights
from styletrainer.run.report import ORIGIN, thumbnail

# What every run is judged by, whatever it was trained with.
CONTENT_LAYERS = ("relu2_2", "relu3_3")
_MOST = 16  # pictures of a folder or an archive of artworks
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_1")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Run:
    """A run that can be drawn with: ``styles`` are what the generator takes beside the photo, one a style."""

    name: str
    config: TrainConfig
    ticks: list[dict[str, float]]
    generator: nn.Module
    styles: tuple[tuple[str, Tensor | None], ...]
    artworks: tuple[tuple[Tensor, ...], ...]  # RGB (3, H, W), 0-1, those of each style, of the run's own size


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, made by `stylesdk train -o`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Page to write: FILE.html, or a folder for it.")],
    photos: Annotated[
        Path | None, typer.Option(help="Photographs to draw, in every run the same; default: the first run's.")
    ] = None,
    vgg: Annotated[
        list[Path] | None, typer.Option(help="VGG-19 weights that judge. Default: STYLESDK_VGG, else downloaded.")
    ] = None,
) -> None:
    """Put RUNS side by side on one HTML page: pictures, quality, what of their settings differs, losses."""
    found = read_runs(runs)
    if not photos and not found[0].config.photos:
        raise TrainError(f"got: {runs[0]}, which learned from no photos; expected: photographs to draw (--photos).")
    source = photos or Path(found[0].config.photos)
    samples = sample_photos(list_photos(source), 6)
    if not samples:
        raise TrainError(f"got: {source}, where no photo reads; expected: photographs (--photos).")
    judge = Perceptual((*CONTENT_LAYERS, *STYLE_LAYERS), load_weight_sets(vgg or []))
    page = output if output.suffix.lower() in (".html", ".htm") else output / "compare.html"
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"got: {error}; expected: a folder that can be written.") from error
    write_comparison(page, found, samples, judge, source)
    Console().print(f"{page}: {len(found)} runs compared.", highlight=False, markup=False, soft_wrap=True)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run, ready to draw. Raises one TrainError that names all of those that are not."""
    names = _names(folders)
    found, wrong = [], []
    for name, folder in zip(names, folders, strict=True):
        try:
            found.append(_read_run(name, folder))
        except (TrainError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            wrong.append(f"{folder}: " + str(error).replace("\n", " "))
    if wrong:
        listed = "\n  ".join(wrong)
        raise TrainError(f"{len(wrong)} of {len(folders)} runs cannot be compared:\n  {listed}")
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """Folder names; where two are the same, as much of the path as was given."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _read_run(name: str, folder: Path) -> Run:
    config = config_from_run(folder)
    ticks = read_stats(folder)
    if not ticks:
        raise TrainError("got: a run without figures; expected: one that reached its first tick.")
    generator = build_generator(config.generator, config.all_generator_options())
    load_weights(generator, folder / WEIGHTS)
    generator.requires_grad_(False).eval()
    styles = _styles(config, generator)
    # Of a model that was imported the artworks are names of files on another machine.
    artworks = ((),) * max(len(config.styles), 1) if (folder / ORIGIN).is_file() else _artworks(config)
    return Run(name, config, ticks, generator, styles, artworks)


def _artworks(config: TrainConfig) -> tuple[tuple[Tensor, ...], ...]:
    """Pictures of each style, RGB (3, H, W), 0-1; none where the run does not say which."""
    entries = [
        tuple(
            tensor_from_rgb(read_artwork(picture, config.artwork_size, config.crop))
            for picture in _pictures_of(Path(entry))
        )
        for entry in config.artworks
    ]
    several = len(config.styles) > 1
    if config.new_style_only:
        return (*[()] * (len(config.styles) - 1), sum(entries, ()))
    return tuple(entries) if several else (sum(entries, ()),)


def _pictures_of(entry: Path) -> list[Photo]:
    """The file, or the first pictures of a folder or an archive."""
    single = entry.is_file() and entry.suffix.lower() not in ARCHIVES
    return [entry] if single else list_photos(entry, "put the artworks of the run back.")[:_MOST]


def _styles(config: TrainConfig, generator: nn.Module) -> tuple[tuple[str, Tensor | None], ...]:
    """Names and inputs of the styles that a generator draws: a code each, mixing weights, or nothing."""
    if hasattr(generator, "code"):
        table = generator.codes()  # type: ignore[operator]
    else:
        count = int(getattr(generator, "styles", 1))
        if count == 1:
            return ((config.styles[0] if config.styles else "", None),)
        table = torch.eye(count)
    names = config.styles or tuple(Path(path).stem for path in config.artworks)
    return tuple((names[i] if i < len(names) else f"style {i + 1}", row) for i, row in enumerate(table))


@torch.no_grad()
def write_comparison(page: Path, runs: Sequence[Run], samples: Sequence[Tensor], judge: Perceptual, of: Path) -> None:
    """Draw ``samples`` RGB (3, H, W), 0-1, of one size, in every run and write the page."""
    batch = torch.stack(list(samples))
    rows, quality = [[torch.ones_like(samples[0]), *samples]], []
    for run in runs:
        for number, (name, style) in enumerate(run.styles):
            drawn = with_margin(run.generator, batch, style).clamp(0, 1)
            of_style = run.artworks[number] if number < len(run.artworks) else ()
            corner = thumbnail(of_style[0], samples[0].shape[1:]) if of_style else torch.ones_like(samples[0])
            rows.append([corner, *drawn])
            title = f"{run.name}, {name}" if len(run.styles) > 1 else run.name
            quality.append((title, *_figures(judge, batch, drawn, of_style)))
    sheet = np.vstack([np.hstack([rgb_from_tensor(picture) for picture in row]) for row in rows])
    order = ", ".join(title for title, *_ in quality)
    ticks = {run.name: run.ticks for run in runs}
    write_page(
        page,
        "compare.html",
        title="Runs compared: " + ", ".join(run.name for run in runs),
        names=[run.name for run in runs],
        sheet=sheet_of(sheet, f"Photos, and below them the same photos in {order}", f"Top: photos. Below: {order}."),
        quality_caption=f"Means over {len(samples)} photos of {of}. 1 is as far from the target as a blank is; "
        "less is nearer to the photo, to the artwork, to a smooth picture.",
        quality=quality,
        differing=_differing([run.config for run in runs]),
        over_steps=charts(ticks, "step"),
        over_time=charts(ticks, "seconds"),
    )


def _figures(
    judge: Perceptual, photos: Tensor, drawn: Tensor, artworks: Sequence[Tensor]
) -> tuple[float, float | str, float]:
    """Content, style and total variation of pictures (N, 3, H, W), by the trainer's own losses."""
    seen = judge(drawn)
    wanted = judge(photos, CONTENT_LAYERS)
    content = sum(float(losses.content_loss(seen[x], wanted[x])) for x in CONTENT_LAYERS) / len(CONTENT_LAYERS)
    variation = float(losses.total_variation(drawn))
    if not artworks:
        return content, "–", variation
    of_each = [judge(artwork[None], STYLE_LAYERS) for artwork in artworks]
    style = 0.0
    for layer in STYLE_LAYERS:
        target = torch.stack([losses.gram(features[layer]) for features in of_each]).mean(0)
        style += float(losses.style_loss(seen[layer], target)) / len(STYLE_LAYERS)
    return content, style, variation


def _differing(configs: Sequence[TrainConfig]) -> list[tuple[str, ...]]:
    rows = []
    for entry in dataclasses.fields(TrainConfig):
        values = [shown(getattr(config, entry.name)) for config in configs]
        if len(set(values)) > 1 and entry.name != "run":
            rows.append((entry.name, *values))
    return rows
