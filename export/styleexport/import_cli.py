"""`stylesdk import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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

    run_from_onnx(resolve(model), output, photos)
    console = Console()
    console.print(
        f"{output}: done. Next: stylesdk train ART.jpg --photos {photos} --start {output} --stage finish -o runs/mine",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
