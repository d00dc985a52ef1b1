"""Frames from anywhere, through a style, to anywhere: sources, sinks and the pipeline between them."""

from stylesdk.live.pipeline import Counts, run_pipeline
from stylesdk.live.sinks import Sink, StopRequested, open_sink
from stylesdk.live.sources import Source, SourceFrame, open_source

__all__ = [
    "Counts",
    "Sink",
    "Source",
    "SourceFrame",
    "StopRequested",
    "open_sink",
    "open_source",
    "run_pipeline",
]
