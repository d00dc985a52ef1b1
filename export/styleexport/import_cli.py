"""`stylesdk import`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from styleexport.errors import ExportError
from stylesdk.styles import resolve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def import_model(
    model: Annotated[Path, typer.Argument(help="Bundled style, or an fp32 ONNX file of a realtime generator.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the run.")],
    photos: Annotated[Path, typer.Option(help="Photographs, as for training: statistics are measured on them.")],
) -> None:
    """Make the folder of a run of MODEL, so that training can go on from it.

    `stylesdk train ART.jpg --start RUN` then learns a new style in minutes, and `--add-to RUN` adds one to a model of
    several.
    """
    from styleexport.run_from_onnx import run_from_onnx  # torch takes seconds to import
    from styletrainer.generators.realtime import Realtime

    config = run_from_onnx(_whole(model), output, photos)
    following = ["stylesdk", "train", "ART.jpg", "--photos", str(photos), "-o", "runs/mine", "--minutes", "10"]
    if config.styles:
        following += ["--add-to", str(output)]
    else:
        following += ["--start", str(output), "--size", Realtime(**config.generator_options).size, "--stage", "finish"]
    Console().print(f"{output}: done. Next: {shlex.join(following)}", highlight=False, markup=False, soft_wrap=True)


def _whole(model: Path) -> Path:
    name, colon, _ = str(model).rpartition(":")
    if colon and len(name) > 1:  # no drive letter
        raise ExportError(f"got: {model}; expected: a whole model.\nDo this: give {name}; all of its styles come.")
    return resolve(model)
