"""Frames from anywhere, through a style, to anywhere: sources, sinks and the pipeline between them."""

from stylesdk.live.pipeline import run_pipeline
from stylesdk.live.progress import Counts
from stylesdk.live.sinks import Sink, open_sink
from stylesdk.live.sources import Source, SourceFrame, open_source
from stylesdk.live.styling import Look
from stylesdk.live.window import StopRequested

__all__ = [
    "Counts",
    "Look",
    "Sink",
    "Source",
    "SourceFrame",
    "StopRequested",
    "open_sink",
    "open_source",
    "run_pipeline",
]
