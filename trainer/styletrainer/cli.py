"""`stylesdk train`."""

from __future__ import annotations

import dataclasses
import json
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from styletrainer.config import config_from_dict, config_from_run, settings_from_toml
from styletrainer.errors import TrainError
from styletrainer.generators import GENERATORS
from styletrainer.recipes import RECIPES

STAGES = Path(__file__).parent / "stages"


class Stage(str, Enum):
    """The runs that make a small network, in order."""

    TEACHER = "teacher"
    DISTILL = "distill"
    FINISH = "finish"


class Look(str, Enum):
    """Shares of the artwork and of the photo: balance.LOOKS."""

    SUBTLE = "subtle"
    BALANCED = "balanced"
    BOLD = "bold"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    artworks: Annotated[
        list[Path] | None, typer.Argument(help="Pictures of one style; with --many one picture a style.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Photographs: folder, searched in depth, .zip, or a WebDataset's .tar.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV of pairs (source,target,style,similarity[,mask]) for --recipe paired."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help=", ".join(sorted(RECIPES)) + ". Default: hybrid.")] = None,
    generator: Annotated[str | None, typer.Option(help=f"{', '.join(GENERATORS)}. Default: the recipe's.")] = None,
    size: Annotated[str | None, typer.Option(help="nano, small or base, of the realtime generator.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; an upper bound with --minutes.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this much training time.")] = None,
    stop_when_good: Annotated[
        bool, typer.Option("--stop-when-good", help="Stop when the loss no longer falls, once the rate has fallen.")
    ] = False,
    look: Annotated[
        Look | None, typer.Option(help="How much of the artwork: the losses' weights set themselves to it.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Crops a step and process.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same weights.")] = None,
    vgg: Annotated[
        list[Path] | None,
        typer.Option(help="VGG-19 weights (.safetensors, .pth). Default: STYLESDK_VGG, else downloaded."),
    ] = None,
    vgg16: Annotated[
        list[Path] | None,
        typer.Option(help="VGG-16 weights, for --recipe paired. Default: STYLESDK_VGG16, else downloaded."),
    ] = None,
    many: Annotated[bool, typer.Option("--many", help="One network of several styles, one a picture.")] = False,
    add_to: Annotated[
        Path | None,
        typer.Option(help="Finished run of several styles that gets one more; only its own parameters learn."),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with a teacher's picture of every photo; one a style, named like it or in its turn."),
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Finished run whose weights to begin with.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16-mixed or 32-true.")] = None,
    stage: Annotated[
        Stage | None, typer.Option(help="Settings of one of the three runs that make a small network.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with any setting of the run.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="SETTING=VALUE, any setting of the run, such as style_weight=2."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder, if there is one.")] = True,
    dry_run: Annotated[bool, typer.Option(help="Check and print the settings, read no file, train nothing.")] = False,
) -> None:
    """Train a generator that paints photos in the style of ARTWORKS.

    Needs some hundred photographs, and names free sets of them where none are given. The run folder holds
    config.json, checkpoint.pt, generator.safetensors, stats.jsonl, report.html, sample sheets and TensorBoard
    logs; the same command goes on where a stopped run ended. Several GPUs or nodes: start it with torchrun.
    """
    values = settings_from_toml(STAGES / f"{stage.value}.toml") if stage else {}
    values |= settings_from_toml(config) if config else {}
    given = {
        "artworks": [str(p) for p in artworks] if artworks else None,
        "photos": str(photos) if photos else None,
        "pairs": str(pairs) if pairs else None,
        "run": str(output),
        "recipe": recipe,
        "generator": generator,
        "steps": steps,
        "minutes": minutes,
        "stop_when_good": stop_when_good or None,
        "look": look.value if look else None,
        "batch": batch,
        "seed": seed,
        "vgg": [str(p) for p in vgg] if vgg else None,
        "vgg16": [str(p) for p in vgg16] if vgg16 else None,
        "pictures": [str(p) for p in pictures] if pictures else None,
        "styles": [p.stem for p in artworks or []] if many else None,
        "start": str(start) if start else None,
        "accelerator": device,
        "precision": precision,
        "generator_options": {"size": size} if size else None,
    }
    values |= {name: value for name, value in given.items() if value is not None}
    if add_to:
        if many or start or size or generator or recipe:
            raise TrainError(
                "got: --add-to with --many, --start, --size, --generator or --recipe; expected: --add-to alone, "
                "which takes them from its run."
            )
        if not artworks:
            raise TrainError("got: --add-to without an artwork; expected: the picture of the new style.")
        values = _learned_alike(add_to) | values | _added(add_to, artworks)
    for item in settings or []:
        values |= _setting(item)
    if stage is Stage.FINISH and not values.get("start"):
        raise TrainError(
            "got: --stage finish without --start; expected: a network that can paint, whose training it ends.\n"
            "Do this: add --start with the run of --stage distill, or with one that `stylesdk import` makes of a style."
        )
    if values.get("minutes") and "steps" not in values:
        values["steps"] = 10_000_000  # the clock decides
    resolved = config_from_dict(values, "the command line")
    console = Console()
    if dry_run:
        console.print_json(json.dumps(dataclasses.asdict(resolved)))
        return
    from styletrainer.run.loop import train as run_training  # torch and Fabric take seconds to import

    run = run_training(resolved, console, resume)
    if os.environ.get("RANK", "0") == "0":  # one of torchrun's processes
        console.print(
            f"{run}: done. Next: stylesdk export {run} -o models", highlight=False, markup=False, soft_wrap=True
        )


def _learned_alike(run: Path) -> dict[str, Any]:
    """Settings of ``run`` that a style added to it takes over unless told otherwise: losses, size of strokes."""
    before = dataclasses.asdict(config_from_run(run))
    weights = [name for name in before if name.endswith(("_weight", "_layers"))]
    return {name: before[name] for name in (*weights, "style_octaves", "crop", "artwork_size", "recipe_options")}


def _added(run: Path, artworks: list[Path]) -> dict[str, Any]:
    """Settings of a run that adds one style, of ``artworks``, to those of ``run``."""
    before = config_from_run(run)
    if not before.styles:
        raise TrainError(f"got: --add-to {run}, a run of one style; expected: a run of several (`train --many`).")
    if not hasattr(GENERATORS[before.generator], "grown"):
        raise TrainError(
            f"got: --add-to {run}, a run of {before.recipe}; expected: one of hybrid or stylebank, whose styles have "
            f"parameters of their own.\nDo this: a picture of any style can be given to its model, -s MODEL:PICTURE."
        )
    return {
        "styles": [*before.styles, artworks[0].stem],
        "new_style_only": True,
        "start": str(run),
        "recipe": before.recipe,
        "generator": before.generator,
        "generator_options": before.generator_options,
    }


def _setting(item: str) -> dict[str, Any]:
    """``name=value``, the value as JSON, else as text."""
    name, sign, text = item.partition("=")
    if not sign:
        raise TrainError(f"got: --set {item}; expected: SETTING=VALUE, such as style_weight=2")
    try:
        return {name: json.loads(text)}
    except ValueError:
        return {name: text}
