"""`stylesdk optimize`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from styletrainer.data.crops import Picture, read_picture, rgb_from_tensor
from styletrainer.data.photos import SUFFIXES
from styletrainer.errors import TrainError
from styletrainer.optimize.gatys import CONTENT_LAYERS, Painting, Settings, Source, chosen_layers, paint
from styletrainer.perceptual import load_weight_sets
from styletrainer.run.checkpoint import write_atomically
from styletrainer.run.devices import chosen_device, computes_bf16


class OptimizerName(str, Enum):
    """How the pixels go down the loss."""

    LBFGS = "lbfgs"
    ADAM = "adam"


class StartName(str, Enum):
    """What the pixels are at first."""

    PHOTO = "photo"
    NOISE = "noise"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_DEFAULT = Settings()


@app.command()
def optimize(
    photo: Annotated[Path, typer.Argument(help="Picture to paint.")],
    artworks: Annotated[
        list[Path], typer.Argument(help="Pictures whose styles are mixed, or with --mask put in turn.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture to write, such as painted.png.")],
    size: Annotated[int, typer.Option(help="Long side of the result in pixels.")] = _DEFAULT.size,
    steps: Annotated[int, typer.Option(help="Iterations at every scale, coarse to fine.")] = _DEFAULT.steps,
    optimizer: Annotated[OptimizerName, typer.Option(help="L-BFGS is the better.")] = OptimizerName.LBFGS,
    start: Annotated[StartName, typer.Option(help="Noise is further from the photo.")] = StartName.PHOTO,
    style_weight: Annotated[float, typer.Option(help="More: more of the artwork.")] = _DEFAULT.style_weight,
    content_weight: Annotated[float, typer.Option(help="More: more of the photo.")] = _DEFAULT.content_weight,
    tv_weight: Annotated[float, typer.Option(help="More: smoother (total variation).")] = _DEFAULT.tv_weight,
    weights: Annotated[str | None, typer.Option(help="How much of each artwork, such as 0.7,0.3.")] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(help="Where an artwork counts: white on black, of the photo's size; once for every artwork."),
    ] = None,
    artwork_mask: Annotated[
        list[Path] | None, typer.Option(help="Part of an artwork to take the style from; once for every artwork.")
    ] = None,
    keep_color: Annotated[
        bool, typer.Option("--keep-color", help="Keep the photo's colours: only the luma is painted.")
    ] = False,
    match_color: Annotated[
        bool, typer.Option("--match-color", help="Give the artwork the photo's range of colours first.")
    ] = False,
    every: Annotated[
        int | None, typer.Option(min=1, help="Also a picture every so many steps, in the folder OUTPUT-steps.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same noise to start from.")] = _DEFAULT.seed,
    vgg: Annotated[
        list[Path] | None,
        typer.Option(help="VGG-19 weights (.safetensors, .pth). Default: STYLESDK_VGG, else downloaded."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Paint one PHOTO in the style of ARTWORKS by optimising its pixels: minutes a picture, and no training.

    Ctrl-C writes the best picture until then.
    """
    if keep_color and match_color:
        raise TrainError("got: --keep-color and --match-color; expected: one of them.")
    hardware = chosen_device(device)
    settings = Settings(
        size=size,
        steps=steps,
        optimizer=optimizer.value,
        start=start.value,
        color="luma" if keep_color else "match" if match_color else "artwork",
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        seed=seed,
        tick=min(every or _DEFAULT.tick, _DEFAULT.tick),
        bf16=computes_bf16(hardware.type),
    )
    picture, sources = _inputs(photo, artworks, weights, mask or [], artwork_mask or [], settings)
    steps_folder = output.with_name(f"{output.stem}-steps") if every else None
    _prepare(output, steps_folder, [photo, *artworks, *(mask or []), *(artwork_mask or [])])
    weight_sets, console = load_weight_sets(vgg or []), Console()
    (content,), _ = chosen_layers(weight_sets, settings)
    if content != CONTENT_LAYERS[0]:
        console.print(f"content layer {content}: the VGG-19 weights here stop before {CONTENT_LAYERS[0]}")
    paintings = paint(weight_sets, picture, sources, settings, hardware)
    loss = _run(_shown(paintings, console), output, steps_folder, every or 1)
    console.print(f"{output}: done, loss {loss:.3g}", highlight=False, markup=False, soft_wrap=True)


def _inputs(
    photo: Path,
    artworks: Sequence[Path],
    weights: str | None,
    masks: Sequence[Path],
    parts: Sequence[Path],
    settings: Settings,
) -> tuple[Picture, list[Source]]:
    """The photo and its styles. Everything that is wrong with them and the settings is told in one TrainError."""
    wrong = settings.problems()
    pictures = [_picture(path, wrong) for path in (photo, *artworks)]
    shares = _weights(weights, len(artworks), wrong)
    places = _masks("--mask", masks, [(photo, pictures[0])] * len(artworks), wrong)
    regions = _masks("--artwork-mask", parts, list(zip(artworks, pictures[1:], strict=True)), wrong)
    if wrong:
        listed = "\n  ".join(dict.fromkeys(wrong))
        raise TrainError(f"the command line has {len(dict.fromkeys(wrong))} problem(s):\n  {listed}")
    found = [picture for picture in pictures if picture is not None]
    return found[0], [Source(*entry) for entry in zip(found[1:], shares, places, regions, strict=True)]


def _picture(path: Path, wrong: list[str]) -> Picture | None:
    picture = read_picture(path)
    if picture is None:
        what = "which does not read as a picture" if path.is_file() else "where there is no file"
        wrong.append(f"got {path}, {what}; expected a JPEG, PNG or WebP")
    return picture


def _weights(text: str | None, count: int, wrong: list[str]) -> list[float]:
    if text is None:
        return [1.0] * count
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(math.isfinite(x) and x >= 0 for x in found) or not any(found):
        wrong.append(f"--weights: got {text}, expected {count} numbers from 0 on with commas between, one an artwork")
    return found


def _masks(
    option: str, paths: Sequence[Path], of: Sequence[tuple[Path, Picture | None]], wrong: list[str]
) -> list[Picture | None]:
    """Grey masks uint8 (H, W), one for each picture of ``of``, or none at all."""
    if not paths:
        return [None] * len(of)
    if len(paths) != len(of):
        wrong.append(f"{option}: got {len(paths)}, expected {len(of)}, one for every artwork in their order")
    found: list[Picture | None] = []
    for path, (name, picture) in zip(paths, of, strict=False):
        mask = _picture(path, wrong)
        if mask is None or picture is None:
            continue
        if mask.shape != picture.shape:
            wrong.append(f"{option}: got {path} of {_size(mask)}, expected {_size(picture)}, the size of {name}")
        if not mask.any():
            wrong.append(f"{option}: got {path}, black all over, expected white where the artwork counts")
        found.append(np.asarray(cv2.cvtColor(mask, cv2.COLOR_RGB2GRAY), np.uint8))
    return found


def _size(picture: Picture) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _prepare(output: Path, steps: Path | None, inputs: Sequence[Path]) -> None:
    """Make the folders. Refuse before the work what could not be written after it, or would cost an input."""
    if output.suffix.lower() not in SUFFIXES or output.is_dir():
        raise TrainError(f"got: -o {output}; expected: the name of a picture ({', '.join(sorted(SUFFIXES))}).")
    for path in inputs:
        lost = output.exists() and output.samefile(path)
        if lost or (steps and steps.is_dir() and steps.samefile(path.parent)):
            raise TrainError(
                f"got: {path} to read, and -o {output}, which writes over it; expected: an output that is no input.\n"
                "Do this: give -o another name."
            )
    try:
        for folder in filter(None, (output.parent, steps)):
            folder.mkdir(parents=True, exist_ok=True)
            trial = folder / f".{output.name}.{os.getpid()}.tmp"
            trial.touch()
            trial.unlink()
    except OSError as error:
        raise TrainError(f"got: {error}; expected: a folder that can be written.") from error


def _run(paintings: Iterator[Painting], output: Path, steps: Path | None, every: int) -> float:
    """Write the last of ``paintings``, and to ``steps`` every so manieth; returns its loss.

    Whatever ends the search early, Ctrl-C or too little memory for a scale, leaves the last picture until then.
    """
    last: Painting | None = None
    seen = 0
    try:
        for last in paintings:
            if steps and last.step // every > seen:
                seen = last.step // every
                _write(steps / f"{last.step:05d}{output.suffix}", last.picture)
    except BaseException as error:
        if last is not None:
            _write(output, last.picture)
        # Torch has a class of its own for what CUDA lacks alone; of the CPU and of MPS it is in the words.
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
            there = f"{output} is the best until step {last.step} of {last.steps}" if last else "nothing was written"
            raise TrainError(
                f"got: {str(error) or 'too little memory'}; expected: memory for all that a VGG-19 sees in a "
                f"picture of this size.\nDo this: a smaller --size, or --device cpu. {there}."
            ) from error
        raise
    assert last is not None  # paint yields or raises
    _write(output, last.picture)
    return last.loss


def _write(path: Path, picture: Tensor) -> None:
    # Off the device first: where its memory is full, there is none left to round in.
    ok, data = cv2.imencode(path.suffix.lower(), rgb_from_tensor(picture.cpu())[:, :, ::-1])
    if not ok:
        raise TrainError(f"got: {path}, which OpenCV cannot encode; expected: .png or .jpg.")
    write_atomically(path, lambda temporary: temporary.write_bytes(data.tobytes()))


def _shown(paintings: Iterator[Painting], console: Console) -> Iterator[Painting]:
    """The same paintings, with a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("painting", total=None)
        for painting in paintings:
            said = f"scale {painting.scale + 1}  loss {painting.loss:.3g}"
            progress.update(task, description=said, total=painting.steps, completed=painting.step)
            yield painting
        progress.update(task, completed=painting.steps)
