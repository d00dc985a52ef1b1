"""The command line. Every command imports what it needs when it runs, and names the extra it lacks.

Exit codes: 0 done; 1 an error, said in three lines; 2 wrong usage; 3 a camera, stream or screen was lost and did not
come back within ``--give-up`` seconds, what was recorded until then is whole; 130 interrupted: Ctrl-C, SIGTERM, SIGHUP.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from stylesdk.errors import MissingExtraError, SourceLostError, StyleSDKError
from stylesdk.interrupts import stop_on_signals
from stylesdk.latency import Latency, processor, timed, usable_cores
from stylesdk.stylizer import Stylizer

if TYPE_CHECKING:
    from stylesdk.live import Counts

# What no command can foresee of every path that it is given.
_OUTSIDE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS, errno.EIO)

app = typer.Typer(
    name="stylesdk",
    help="Real-time artistic stylization: train, export, run on live video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

_MODEL = (
    "Bundled style or model file. Of several styles in it, MODEL:NAME takes one, MODEL:NAME=0.7,NAME=0.3 blends; "
    "where the model can, MODEL:PICTURE.jpg takes a picture's style, and MODEL:auto what suits each photo or video."
)
Style = Annotated[str, typer.Option("-s", "--style", help=_MODEL)]
Strength = Annotated[float, typer.Option(min=0.0, max=1.0, help="0 = the photo, 1 = the full style.")]
KeepColor = Annotated[bool, typer.Option("--keep-color", help="Keep the photo's colours: only the luma is styled.")]
Smoothing = Annotated[float, typer.Option(min=0.0, max=1.0, help="Steady what does not move: 0 = off, 0.5 = by half.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Runtime = Annotated[str | None, typer.Option(help="onnxruntime, openvino, tensorrt, onnxruntime-tensorrt.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: every usable core.")]
_OUTPUT = "File, folder, window, fullscreen, vcam or null. Default: by source."
Output = Annotated[str | None, typer.Option("-o", "--output", help=_OUTPUT)]


@app.command()
def demo(
    style: Style = "starry_night",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("stylesdk-demo"),
) -> None:
    """Style a bundled scene: no camera, no GPU, no network. Writes a clip and a picture."""
    from stylesdk.demo import run_demo

    run_demo(style, output, console)


@app.command()
def styles(
    measure: Annotated[bool, typer.Option("--measure", help="Also time each of them here, at 640x480.")] = False,
) -> None:
    """List the bundled styles."""
    from stylesdk.styles import styles as bundled

    table = Table("model", "styles", "precision", "size", "stride", "licence", *(["p50 ms", "on"] if measure else []))
    for entry in bundled():
        manifest = entry.manifest
        size = f"{entry.bytes / 1e6:.2f} MB"
        names = ", ".join(manifest.styles)
        timing = _timing(entry.name) if measure else ()
        table.add_row(entry.name, names, manifest.precision, size, str(manifest.stride), manifest.licence, *timing)
    console.print(table)


def _timing(style: str) -> tuple[str, str]:
    """Median milliseconds of ``Stylizer.run``, and the backend."""
    frame = np.full((480, 640, 3), 127, np.uint8)
    with Stylizer(style) as stylizer:
        timed(lambda: stylizer.run(frame), 3)
        return f"{median(timed(lambda: stylizer.run(frame), 15)):.1f}", stylizer.backend


_SOURCE = (
    "Image, folder, glob, video; camera: 0, 0@1280x720, 0@1280x720@60, /dev/v4l/by-id/..., camera:PART-OF-ITS-NAME; "
    "stream: rtsp:// http:// https:// tcp:// udp://; screen, screen:N, screen:X,Y,WxH; demo, test."
)
GiveUp = Annotated[float, typer.Option(min=0.0, help="Seconds after which a lost source ends the run with code 3.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Size that the camera is asked for: 1280x720.")]
Fps = Annotated[float | None, typer.Option(min=0.1, max=1000.0, help="Frames a second of the camera or screen.")]


@app.command()
def run(
    source: Annotated[str, typer.Argument(help=_SOURCE)],
    style: Style = "starry_night",
    output: Output = None,
    strength: Strength = 1.0,
    keep_color: KeepColor = False,
    smoothing: Smoothing = 0.0,
    device: Device = "auto",
    runtime: Runtime = None,
    threads: Threads = None,
    size: Size = None,
    fps: Fps = None,
    give_up: GiveUp = 30.0,
) -> None:
    """Style SOURCE and write, show or discard the result."""
    look = {"strength": strength, "keep_color": keep_color, "smoothing": smoothing}
    wish = {"size": parse_size(size) if size else None, "fps": fps, "give_up": give_up}
    with _opened(style, device, runtime, threads) as stylizer:
        _run(source, wish, stylizer, output, look)


@app.command()
def webcam(
    style: Style = "starry_night",
    camera: Annotated[str, typer.Option(help="Number, path in /dev/v4l/by-id, or a part of its name.")] = "0",
    strength: Strength = 1.0,
    keep_color: KeepColor = False,
    smoothing: Smoothing = 0.0,
    device: Device = "auto",
    runtime: Runtime = None,
    threads: Threads = None,
    size: Size = None,
    fps: Fps = None,
    give_up: GiveUp = 30.0,
) -> None:
    """Style the camera in a window. Keys: 1-9 style, , . blend, + - strength, c colours, m smoothing, q quits."""
    from stylesdk.live.camera import is_camera

    look = {"strength": strength, "keep_color": keep_color, "smoothing": smoothing}
    wish = {"size": parse_size(size) if size else None, "fps": fps, "give_up": give_up}
    with _opened(style, device, runtime, threads) as stylizer:
        _run(camera if is_camera(camera) else f"camera:{camera}", wish, stylizer, "window", look)


def _opened(style: str, device: str, runtime: str | None, threads: int | None) -> Stylizer:
    from stylesdk.live.memory import keep_memory_flat

    keep_memory_flat()
    return Stylizer(style, device=device, runtime=runtime, threads=threads)


def _run(
    source_text: str, wish: dict[str, Any], stylizer: Stylizer, output: str | None, options: dict[str, Any]
) -> None:
    from stylesdk.live import Look, open_sink, open_source, run_pipeline
    from stylesdk.live.systemd import Service

    # Our errors say what OpenCV would, and a lost camera is tried again and again.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    look = Look(style=stylizer.default_style, styles=stylizer.styles, **options)
    with closing(open_source(source_text, **wish)) as source, stop_on_signals() as stop, Service() as service:
        console.print(source.description, highlight=False, markup=False, soft_wrap=True)
        sink = open_sink(output, source, look)
        counts = run_pipeline(source, stylizer, sink, look=look, on_frame=service.frame, stop=stop)
        interrupted = stop.is_set()
    _print_run(counts, f"on {stylizer.backend} -> {sink.name}", live=source.live)
    print_latency(stylizer.latency)
    if interrupted:
        raise KeyboardInterrupt


def _print_run(counts: Counts, where: str, *, live: bool) -> None:
    lines = [f"{counts.delivered} frames, {counts.dropped} dropped, {counts.fps:.1f} frames/s {where}"]
    if counts.limit:
        age = f"age of a frame when it came: {counts.stages['age'].run}; " if live else ""
        lines.append(f"{age}limited by: {counts.limit}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def print_latency(latency: Latency) -> None:
    """The latency table of a Stylizer."""
    table = Table("stage", "p50 ms", "p90 ms", "p99 ms", title=f"{latency['total'].count} frames")
    for stage, value in latency.items():
        table.add_row(stage, f"{value.p50:.2f}", f"{value.p90:.2f}", f"{value.p99:.2f}")
    console.print(table)
    console.print(f"{processor()}, {usable_cores()} cores", highlight=False)


@app.command()
def doctor(
    models: Annotated[list[Path] | None, typer.Argument(help="Model files or plans to try as well.")] = None,
) -> None:
    """Say what works on this machine, what is in conflict, and what to install."""
    from stylesdk.doctor import run_doctor

    raise typer.Exit(run_doctor(console, models or []))


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` -> (height, width)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise typer.BadParameter(f"got {text!r}, expected WIDTHxHEIGHT such as 1280x720")
    return int(height), int(width)


def _add_outside_command(name: str, module: str, extra: str, summary: str) -> None:
    """A command that another package brings: shown in the help, loaded when called, its extra named when missing."""

    @app.command(
        name,
        help=summary,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def outside(context: typer.Context) -> None:
        try:
            command: Callable[..., Any] = import_module(module).app
            code = command(args=context.args, prog_name=f"stylesdk {name}", standalone_mode=False)
        except MissingExtraError:
            raise
        except ImportError as error:
            if (error.name or "").split(".")[0] in ("stylesdk", "styletrainer", "styleexport"):
                raise
            missing = error.name or module
            # The runtime is the user's choice of `cpu` or `gpu`: no other extra may bring one.
            raise MissingExtraError(
                missing, "cpu" if missing == "onnxruntime" else extra, f"`stylesdk {name}`"
            ) from error
        if code:
            raise typer.Exit(code)


_add_outside_command("bench", "stylesdk.bench.cli", "cpu", "Measure latency at three levels; say what limits you.")
_add_outside_command("batch", "stylesdk.batch.cli", "live", "Style a folder or bucket of images and videos.")
_add_outside_command("serve", "stylesdk.web.cli", "web", "A page that styles the browser's camera or a video.")
_add_outside_command("train", "styletrainer.cli", "train", "Train a generator from artworks and photos.")
_add_outside_command("optimize", "styletrainer.optimize.cli", "train", "Paint one photo by optimising its pixels.")
_add_outside_command("compare", "styletrainer.pages.compare", "train", "Put training runs on one HTML page.")
_add_outside_command("export", "styleexport.cli", "export", "Export a training run to ONNX or a TensorRT plan.")
_add_outside_command("import", "styleexport.import_cli", "export", "Make a run of a model, to train on from it.")


def main() -> None:
    """Entry point: errors of ours as three lines, no traceback; exit codes as this module's docstring says."""
    try:
        result = app(standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        code = 130
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.Abort:
        code = 130
    except Exception as error:  # noqa: BLE001 - foreign ones are raised again
        code = _explain(error)
    sys.stdout.flush()
    sys.exit(code)


def _explain(error: Exception) -> int:
    # Usage errors: click's in older releases of typer, typer's own in newer ones.
    if isinstance(error, typer.BadParameter.__mro__[2]):
        error.show()  # type: ignore[attr-defined]
        return 2
    if isinstance(error, OSError) and error.errno in _OUTSIDE:
        error = StyleSDKError(
            f"{error.strerror}: {error.filename}",
            expected="a path that can be read, and written where this command writes",
            do="check its name, its owner and rights, and whether the disk has room",
        )
    ours = isinstance(error, StyleSDKError) or type(error).__module__.startswith(("styletrainer", "styleexport"))
    if not ours:
        raise error
    Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
    return 3 if isinstance(error, SourceLostError) else 1


if __name__ == "__main__":
    main()
