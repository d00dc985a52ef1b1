"""Latency at three levels: the runtime alone, ``Stylizer.run`` host to host, camera to sink."""

from stylesdk.bench.levels import Copying, Measured, Timed, bench_frame, measure, measure_levels
from stylesdk.bench.report import Settings, run_bench
from stylesdk.bench.streams import StreamRun, sustained_streams

__all__ = [
    "Copying",
    "Measured",
    "Settings",
    "StreamRun",
    "Timed",
    "bench_frame",
    "measure",
    "measure_levels",
    "run_bench",
    "sustained_streams",
]
