"""What is measured, level by level. Durations are in seconds until they are told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from stylesdk.backends import Backend
from stylesdk.bench.camera import WARM_UP, camera_to_sink, flat_out
from stylesdk.errors import SourceError
from stylesdk.frames import Frame
from stylesdk.latency import STAGES, WINDOW, percentiles
from stylesdk.stylizer import Stylizer
from stylesdk.tiles import tiles_for

KERNEL, COPY_IN, COPY_OUT, CAMERA = "kernel", "copy in", "copy out", "camera to sink"
_SMALLEST = 16  # pixels a side; the scene needs some, and so do networks


@runtime_checkable
class Timed(Protocol):
    """What a backend may offer beside ``Backend``: its own time for a frame that is already in place.

    A backend may also say in the attribute ``cuda_graph``, a bool, whether it replays one.
    """

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of each of ``count`` inferences on the buffers of the last ``infer``, without copies.

        By CUDA events on a GPU. Empty before the first ``infer``.
        """


@runtime_checkable
class Copying(Protocol):
    """What a backend with memory of its own may offer: the time of its copies."""

    def copy_in_place(self, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds of ``count`` copies of the last frame to the device, and of as many results from it."""


@runtime_checkable
class Building(Protocol):
    """A backend that draws by something slower while it builds what is to be measured."""

    serving: Backend  # what styled the last frame

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for what is being built."""


@dataclass
class Measured:
    """One model's durations in seconds by level; a level that the backend cannot tell is not there.

    Args:
        backend: what ran it.
        cuda_graph: whether the backend replays a CUDA graph; None where it has no such thing.
        fps: frames a second of the camera.
        seconds: level -> one duration a run: ``kernel``, ``copy in``, ``copy out``, the stages of
            ``Stylizer.run`` with ``total``, ``camera to sink``.
        delivered, dropped: frames of the camera.
        sustained: frames a second of the live pipeline without a camera to wait for, one a round.
    """

    backend: str
    cuda_graph: bool | None
    fps: float
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    delivered: int = 0
    dropped: int = 0
    sustained: list[float] = field(default_factory=list)

    def add(self, other: Measured) -> None:
        """Take over another round of the same model."""
        for level, values in other.seconds.items():
            self.seconds[level] += values
        self.delivered += other.delivered
        self.dropped += other.dropped
        self.sustained += other.sustained

    def median(self, level: str) -> float | None:
        """Milliseconds; None where the level was not measured."""
        values = self.seconds.get(level)
        return percentiles(values).p50 if values else None


def measure_levels(stylizer: Stylizer, backend: Backend, frame: Frame, frames: int, fps: float) -> Measured:
    """Every level of an open Stylizer, ``frames`` runs each after warm-up.

    Args:
        stylizer: one that was opened with ``backend``.
        backend: asked for ``run_in_place``, ``copy_in_place`` and ``cuda_graph``, where it has them.
        frame: BGR uint8 (H, W, 3).
        frames: runs a level.
        fps: frames a second of the camera.
    """
    if isinstance(backend, Building):
        for _ in range(2):  # one picture alone is not worth a build
            stylizer.run(frame)
        backend.wait()
    seconds = _run_seconds(stylizer, frame, frames)
    served = backend.serving if isinstance(backend, Building) else backend
    seconds |= {level: [ms / 1e3 for ms in values] for level, values in _in_place(served, frame, frames) if values}
    seconds[CAMERA], counts = camera_to_sink(stylizer, frame, frames, fps)
    found = Measured(stylizer.backend, getattr(served, "cuda_graph", None), fps)
    found.seconds.update(seconds)
    found.delivered, found.dropped = counts.delivered, counts.dropped
    found.sustained = [flat_out(stylizer, frame, frames)]
    return found


def measure(stylizer: Stylizer, frame: Frame, frames: int) -> dict[str, dict[str, Any]]:
    """Percentiles in ms of ``Stylizer.run`` by stage over ``frames`` runs, after a tenth of them as warm-up."""
    return {stage: asdict(percentiles(values)) for stage, values in _run_seconds(stylizer, frame, frames).items()}


def bench_frame(size: tuple[int, int]) -> Frame:
    """A frame (height, width) with detail at every scale; the values do not change the speed.

    Raises:
        SourceError: smaller than 16x16.
    """
    from stylesdk.live.scene import render_frame

    if min(size) < _SMALLEST:
        raise SourceError(f"a frame of {size[1]}x{size[0]}", expected="at least 16x16", do="give a larger --size")
    return render_frame(0, 100, size)


def _run_seconds(stylizer: Stylizer, frame: Frame, frames: int) -> dict[str, list[float]]:
    for _ in range(max(frames // 10, WARM_UP)):
        stylizer.run(frame)
    found: dict[str, list[float]] = {stage: [] for stage in STAGES}
    # In parts, as a Stylizer forgets what is older.
    for done in range(0, frames, WINDOW):
        stylizer.latency.clear()
        for _ in range(min(WINDOW, frames - done)):
            stylizer.run(frame)
        for stage, values in found.items():
            values += stylizer.latency.seconds(stage)
    return found


def _in_place(backend: Backend, frame: Frame, count: int) -> Iterator[tuple[str, list[float]]]:
    """Milliseconds of the levels below ``run``. A frame that is cut into tiles is never in place as a whole."""
    promise = backend.manifest
    if promise and not promise.max_size and tiles_for((frame.shape[0], frame.shape[1]), promise.reach, promise.stride):
        return
    if isinstance(backend, Timed):
        backend.run_in_place(WARM_UP)
        yield KERNEL, backend.run_in_place(count)
    if isinstance(backend, Copying):
        backend.copy_in_place(WARM_UP)
        yield from zip((COPY_IN, COPY_OUT), backend.copy_in_place(count), strict=True)
