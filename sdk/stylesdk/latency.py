"""Where the time of a frame goes: stage timer, percentiles, machine card."""

from __future__ import annotations

import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from stylesdk.gpu.nvidia_smi import query_gpu

STAGES = ("preprocess", "inference", "postprocess", "total")
WINDOW = 1000  # frames that a Stylizer's percentiles look back on
_ENOUGH = 1000  # durations from which p99.9 can be told
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds over ``count`` runs. ``p99_9`` is None below 1,000 of them: they cannot tell it."""

    p50: float
    p90: float
    p99: float
    p99_9: float | None
    count: int

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f} ms, p90 {self.p90:.2f} ms, p99 {self.p99:.2f} ms"


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Percentiles of durations in seconds, as milliseconds; zeros for none."""
    if not seconds:
        return Percentiles(0.0, 0.0, 0.0, None, 0)
    p50, p90, p99, p99_9 = (float(v) * 1e3 for v in np.percentile(list(seconds), (50, 90, 99, 99.9)))
    return Percentiles(p50, p90, p99, p99_9 if len(seconds) >= _ENOUGH else None, len(seconds))


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of ``count`` calls, by the wall clock."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1e3)
    return found


class Latency(Mapping[str, Percentiles]):
    """Percentiles by stage: preprocess, inference, postprocess, total. Fills as frames run."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {s: deque(maxlen=WINDOW) for s in STAGES}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body as stage ``name``; a body that raises is not counted."""
        start = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count a duration that was measured elsewhere."""
        self._seconds[name].append(seconds)

    def seconds(self, stage: str) -> list[float]:
        """Durations in seconds of the last frames (1,000 at most), oldest first."""
        return list(self._seconds[stage])

    def clear(self) -> None:
        """Forget all frames, so that warm-up does not count."""
        for seconds in self._seconds.values():
            seconds.clear()

    def __getitem__(self, stage: str) -> Percentiles:
        return percentiles(self._seconds[stage])

    def __iter__(self) -> Iterator[str]:
        return iter(self._seconds)

    def __len__(self) -> int:
        return len(self._seconds)

    def __repr__(self) -> str:
        return "Latency(" + "; ".join(f"{name}: {self[name]}" for name in self) + ")"


def machine_card() -> dict[str, str]:
    """What a figure was measured on: processor, cores, system, Python, runtimes; GPU and driver where one is."""
    gpu = query_gpu() or {}
    card = {
        "processor": processor(),
        "cores": str(usable_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "runtimes": ", ".join(_runtimes()) or "none",
    }
    return card | {key: str(gpu[key]) for key in ("gpu", "driver") if gpu.get(key)}


def _runtimes() -> Iterator[str]:
    for package in _RUNTIMES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def usable_cores() -> int:
    """Processor cores that this process may use; a container's limit counts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(min(cores, int(quota) // int(period)), 1)
    except (OSError, ValueError):  # no such file, or "max": no limit
        return cores


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
