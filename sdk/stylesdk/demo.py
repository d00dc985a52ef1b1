"""The main job, with nothing but the package: a bundled style on a scene that it renders itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from stylesdk.errors import SinkError
from stylesdk.interrupts import stop_on_signals
from stylesdk.live import open_sink, open_source, run_pipeline
from stylesdk.live.scene import render_frame
from stylesdk.live.sinks import write_image
from stylesdk.stylizer import Stylizer


def run_demo(style: str, output: Path, console: Console) -> None:
    """Write ``demo.mp4`` and ``demo.png`` (the photo above the style) to ``output`` and print the latency table.

    Raises:
        SinkError: ``output`` cannot be written.
        ModelFileError, MissingExtraError: as in Stylizer.
    """
    from stylesdk.cli import print_latency

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{output}: {error.strerror}", expected="a folder that can be written") from error
    clip, picture = output / "demo.mp4", output / "demo.png"
    with Stylizer(style) as stylizer:
        photo = render_frame(40, 100)
        styled = stylizer.run(photo)  # the first frame warms up, and is not counted
        stylizer.latency.clear()
        source = open_source("demo")
        with stop_on_signals() as stop:
            counts = run_pipeline(source, stylizer, open_sink(str(clip), source), stop=stop)
        if stop.is_set():
            raise KeyboardInterrupt
        write_image(picture, np.vstack([photo, styled]))
        console.print(
            f"{counts.delivered} frames of 640x360 at {counts.fps:.1f} frames/s on {stylizer.backend}",
            highlight=False,
        )
        print_latency(stylizer.latency)
    console.print(f"clip {clip}\npicture {picture}", highlight=False, soft_wrap=True)
    console.print("Next: stylesdk webcam, or stylesdk run photo.jpg", highlight=False)
