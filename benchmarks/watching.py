"""A process that watches itself: resident memory, threads and open files, every second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import psutil  # type: ignore[import-untyped]

MIB = 2**20


@dataclass
class Samples:
    """What was seen at ``seconds`` since the start; ``files`` counts file descriptors, on Windows handles."""

    seconds: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)  # MiB
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def growth(self, warm_up: float) -> float:
        """MiB a minute, by least squares over what came after ``warm_up``, a share of the time; 0 for too little."""
        begin = warm_up * self.seconds[-1] if self.seconds else 0
        points = [(s / 60, mib) for s, mib in zip(self.seconds, self.rss, strict=True) if s >= begin]
        if len(points) < 3:
            return 0.0
        minutes, values = np.array(points).T
        return float(np.polyfit(minutes, values, 1)[0])


def more_at_the_end(values: Sequence[float]) -> float:
    """How much more the least, or the most, of the last third is than that of the middle one.

    Recordings come and go: what has leaked is there when none runs, and on top when one does.
    """
    third = len(values) // 3
    if not third:
        return 0.0
    middle, last = values[third : 2 * third], values[-third:]
    return float(max(min(last) - min(middle), max(last) - max(middle), 0))


class Watching:
    """Samples this process in a thread of its own while it is entered."""

    def __init__(self, every: float = 1.0) -> None:
        self.samples = Samples()
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watching", daemon=True)

    def _watch(self) -> None:
        process, start, seen = psutil.Process(), time.monotonic(), self.samples
        while True:
            seen.seconds.append(time.monotonic() - start)
            seen.rss.append(process.memory_info().rss / MIB)
            seen.threads.append(process.num_threads())
            seen.files.append(process.num_handles() if os.name == "nt" else process.num_fds())
            if self._over.wait(self._every):
                return

    def __enter__(self) -> Samples:
        self._thread.start()
        return self.samples

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
