"""`stylesdk batch`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from stylesdk.batch.plan import plan_batch
from stylesdk.batch.run import Summary, run_batch
from stylesdk.batch.worker import Job, Result
from stylesdk.cli import Device, KeepColor, Runtime, Smoothing, Strength, Style, Threads, console
from stylesdk.errors import ModelFileError
from stylesdk.live import Look
from stylesdk.mix import split_style
from stylesdk.styles import resolve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def batch(
    source: Annotated[str, typer.Argument(help="Folder, searched in depth, file or glob; a path or a URL.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Folder or URL; the folders of SOURCE are mirrored.")],
    style: Style = "starry_night",
    strength: Strength = 1.0,
    keep_color: KeepColor = False,
    smoothing: Smoothing = 0.0,
    device: Device = "auto",
    runtime: Runtime = None,
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Style again what is there already.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="On Ray: the cluster at RAY_ADDRESS, or this machine.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: Stylizers at once. Default: what the cluster has.")
    ] = None,
) -> None:
    """Style a folder or bucket of images and videos; the same command goes on where a stopped one ended.

    With --ray a worker takes --threads CPUs, 1 by default, and with --device cuda one GPU.
    """
    if workers and not ray:
        raise typer.BadParameter("--workers needs --ray")
    model = _everywhere(style)
    origin, place, files = plan_batch(source, output)
    look = Look(strength=strength, keep_color=keep_color, smoothing=smoothing)
    job = Job(origin, place, model, device, runtime, threads, look)
    with _progress() as on_result, _sigterm_as_ctrl_c():
        summary = run_batch(job, files, overwrite=overwrite, ray=ray, workers=workers, on_result=on_result)
    _tell(summary, place.root)
    if summary.failed:
        raise typer.Exit(1)


def _everywhere(style: str) -> str:
    """``style`` with the absolute paths of its files: workers stand in other folders. A bundled name stays one."""
    file, chosen = split_style(style)
    path, rest = Path(file), style[len(file) :]
    if isinstance(chosen, Path) and chosen.is_file():  # and not the name of a style
        rest = f":{chosen.resolve()}"
    if resolve(file) != path:
        return f"{file}{rest}"
    if not path.is_file():  # known now, and not when a cluster has started
        raise ModelFileError(f"{path}: no such file", expected="a model file", do="check the path")
    return f"{path.resolve()}{rest}"


@contextmanager
def _progress() -> Iterator[Callable[[Result, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("styling", total=None)
        failed = 0

        def on_result(result: Result, total: int) -> None:
            nonlocal failed
            failed += bool(result.error)
            bar.update(task, advance=1, total=total, description=f"styling, {failed} failed" if failed else "styling")

        yield on_result


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(summary: Summary, root: str) -> None:
    if summary.failed:
        table = Table("file", "error", title=f"{len(summary.failed)} failed")
        for name, error in summary.failed.items():
            table.add_row(Text(name), Text(error))
        console.print(table)
    console.print(
        f"{summary.done} styled, {summary.skipped} there already, {len(summary.failed)} failed -> {root}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
