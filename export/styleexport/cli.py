"""`stylesdk export`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from styleexport.errors import ExportError
from stylesdk.cli import parse_size
from stylesdk.manifest import COMPANIONS, Engine, read_model_file
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@app.command()
def export(
    run: Annotated[
        Path,
        typer.Argument(help="Folder of a training run, or an ONNX file; for engine and triton also a bundled style."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the files.")],
    name: Annotated[str | None, typer.Option(help="Name of the style. Default: the artwork's.")] = None,
    format: Annotated[  # noqa: A002
        str, typer.Option(help="onnx, engine (a TensorRT plan), or triton (a model repository for that server).")
    ] = "onnx",
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16, int8. Default: the first two for onnx of a run, else fp16."),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Of an engine: WxH, or MIN:OPT:MAX, each WxH. Of triton: WxH, to warm up with.")
    ] = "1280x720",
    flavour: Annotated[
        str | None, typer.Option(help="tensorrt, tensorrt_rtx, tensorrt_lean; default: by machine.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Of a plan for RTX: a compute capability such as 8.9. Default: portable.")
    ] = None,
    plan: Annotated[
        list[Path] | None, typer.Option(help="For triton: a plan of flavour tensorrt; one for each kind of GPU.")
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Photographs to verify on, and to make int8 with.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights. Default: an imported model's, else Apache-2.0.")
    ] = None,
) -> None:
    """Export RUN to verified ONNX files, to a TensorRT plan for one size, or to a repository for a Triton server."""
    precisions = precision or (["fp32", "fp16"] if format == "onnx" else ["fp16"])
    if bad := [p for p in precisions if p not in ("fp32", "fp16", "int8")]:
        raise ExportError(f"got: --precision {bad[0]}; expected: fp32, fp16 or int8")
    if format not in ("onnx", "engine", "triton"):
        raise ExportError(f"got: --format {format}; expected: onnx, engine or triton")
    if format == "triton" and len(precisions) > 1:
        raise ExportError(f"got: --precision {' --precision '.join(precisions)}; expected: one, for --format triton")
    if plan and format != "triton":
        raise ExportError(f"got: --plan with --format {format}; expected: --format triton")
    with TemporaryDirectory() as scratch:  # a model repository holds nothing but its models
        files = Path(scratch) if format == "triton" else output
        if (run / "config.json").is_file():
            models = _onnx(run, files, name, precisions, licence, photos)
        elif format != "onnx" or run.suffix == ".onnx":
            if format == "onnx":
                precisions = precision or ["fp16"]
                _refuse_what_it_is(run, precisions)
            models = {_model(run, files, each, photos): "" for each in precisions}
        else:
            raise ExportError(f"got: {run}, which has no config.json; expected: a folder made by `stylesdk train -o`")
        if format == "triton":
            _triton(next(iter(models)), output, size, plan or [])
            return
    for path, verified in models.items():
        console.print(
            f"{path}  {path.stat().st_size / 1e6:.2f} MB{verified}", highlight=False, markup=False, soft_wrap=True
        )
    if format == "engine":
        for model in models:
            if model.stem.endswith(tuple(f".{kind}" for kind in COMPANIONS)) and len(models) > 1:
                continue  # they run on the CPU, once; a plan of one is built where it alone is asked for
            _engine(model, output, size, flavour, target or [])


def _refuse_what_it_is(model: Path, precisions: list[str]) -> None:
    """Of an ONNX file only what is made from fp32 can be written; the file itself would not be."""
    held = manifest_from_onnx(read_model_file(resolve(model)), str(model)).precision
    if held != "fp32" or "fp32" in precisions:
        raise ExportError(
            f"got: --precision {' --precision '.join(precisions)} of {model}, which is {held}; expected: fp16 or int8 "
            "of an fp32 file, or the folder of a training run."
        )


def _model(model: Path, output: Path, precision: str, photos: Path | None) -> Path:
    """The ONNX file of a path or of a bundled style, in ``precision``."""
    from styleexport.export import fp16_model, int8_model

    convert = {"fp16": fp16_model, "int8": int8_model}.get(precision)
    return convert(resolve(model), output, photos) if convert else resolve(model)


def _onnx(
    run: Path, output: Path, name: str | None, precisions: list[str], licence: str | None, photos: Path | None
) -> dict[Path, str]:
    """The files of a run, and how each was verified."""
    from styleexport.export import export_onnx  # torch takes seconds to import

    written = export_onnx(
        run,
        output,
        name=name,
        precisions=precisions,
        licence=licence,
        photos=photos,
    )
    return {path: f"  differs from torch by {difference}" for path, difference in written.items()}


def _engine(model: Path, output: Path, size: str, flavour: str | None, targets: list[str]) -> None:
    from styleexport.engine_from_onnx import engine_from_onnx
    from styleexport.export import copy_companions, make_folder

    sizes = [parse_size(part) for part in size.split(":")]
    if len(sizes) not in (1, 3):
        raise ExportError(f"got: --size {size}; expected: WxH, or MIN:OPT:MAX, each WxH")
    least, usual, most = sizes if len(sizes) == 3 else sizes * 3
    label = "-".join(dict.fromkeys(f"{width}x{height}" for height, width in (least, most)))
    plan = output / f"{model.stem}.{label}.plan"
    make_folder(output)
    copy_companions(model, output)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"building {plan.name}", total=1.0)
        manifest = engine_from_onnx(
            model,
            plan,
            min_size=least,
            opt_size=usual,
            max_size=most,
            flavour=flavour,
            targets=targets,
            progress=lambda phase, done: progress.update(task, description=phase, completed=done),
        )
    assert manifest.engine is not None
    built = f"{manifest.engine.flavour} {manifest.engine.version}, {_made_for(manifest.engine)}"
    console.print(
        f"{plan}  {plan.stat().st_size / 1e6:.2f} MB  {manifest.precision}  {built}",
        highlight=False,
        soft_wrap=True,
    )


def _made_for(engine: Engine) -> str:
    return engine.gpu or " ".join(engine.targets) or "portable"


def _triton(model: Path, output: Path, size: str, plans: list[Path]) -> None:
    from styleexport.triton_repository import triton_repository

    for folder in triton_repository(model, output, plans=plans, warm_up=parse_size(size)):
        megabytes = sum(file.stat().st_size for file in folder.glob("1/*")) / 1e6
        console.print(f"{folder}  {megabytes:.2f} MB", highlight=False, markup=False, soft_wrap=True)
