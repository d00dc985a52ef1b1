"""How a run goes: frames, drops, where their time went, how old they were when they came, what limits them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stylesdk.latency import Percentiles, percentiles

RECENT = 200  # frames that "recent" looks back on
STAGES = ("capture", "style", "deliver", "age")
Limit = Literal["camera", "style", "output"]

_ENOUGH = 1000  # durations from which p99.9 can be told
_SHORTEST, _STEP, _BUCKETS = 1e-6, math.log(1.01), 2200  # one microsecond to almost an hour, each bucket 1 % wider
_LIMITS: dict[str, Limit] = {"capture": "camera", "style": "style", "deliver": "output"}


class Timing:
    """Durations: the last ones as they are, all of them in a histogram, so that a week takes no more memory.

    One thread adds, others may read meanwhile.
    """

    def __init__(self) -> None:
        self.count = 0
        self._recent = np.zeros(RECENT)
        self._buckets = np.zeros(_BUCKETS, np.int64)

    def add(self, seconds: float) -> None:
        """Count one more."""
        self._recent[self.count % RECENT] = seconds
        bucket = math.log(max(seconds, _SHORTEST) / _SHORTEST) / _STEP
        self._buckets[min(int(bucket), _BUCKETS - 1)] += 1
        self.count += 1

    @property
    def mean(self) -> float:
        """Seconds, over the recent ones; 0 for none."""
        return float(self._recent[: self.count].mean()) if self.count else 0.0

    @property
    def recent(self) -> Percentiles:
        """Percentiles in milliseconds of the last 200."""
        return percentiles(self._recent[: self.count].tolist())

    @property
    def run(self) -> Percentiles:
        """Percentiles in milliseconds of all, each to 1 %."""
        totals = np.cumsum(self._buckets)
        count = int(totals[-1])
        if not count:
            return percentiles([])
        ranks = np.maximum(np.ceil(np.array([0.5, 0.9, 0.99, 0.999]) * count), 1)
        middles = _SHORTEST * np.exp((np.searchsorted(totals, ranks) + 0.5) * _STEP)
        p50, p90, p99, p99_9 = (float(value) * 1e3 for value in middles)
        return Percentiles(p50, p90, p99, p99_9 if count >= _ENOUGH else None, count)


@dataclass(frozen=True)
class Counts:
    """How a run went, or goes.

    Args:
        read: frames that the source gave.
        delivered: frames that the sink took.
        dropped: read and never shown; at the end ``read - delivered``.
        seconds: since the start.
        unstyled: of the dropped ones, those that a newer frame replaced before they were styled.
        unshown: those that were styled, and replaced before they were shown.
        cards: of the delivered ones, "no signal" cards.
        stages: time by stage, of frames with a signal: ``capture`` (waiting for the source's next frame),
            ``style``, ``deliver`` (the sink), and ``age``, from capture to delivered. They go on while the run does.
    """

    read: int
    delivered: int
    dropped: int
    seconds: float
    unstyled: int = 0
    unshown: int = 0
    cards: int = 0
    stages: Mapping[str, Timing] = field(default_factory=dict, compare=False, repr=False)

    @property
    def fps(self) -> float:
        """Delivered frames per second."""
        return self.delivered / self.seconds if self.seconds > 0 else 0.0

    @property
    def limit(self) -> Limit | None:
        """What keeps it from being faster: the stage that takes longest, of late; None before there is any.

        All stages work at the same time, so the pipeline is as fast as its slowest one. The source's time
        includes waiting for it: where that is the longest, every frame that the camera gave could be styled.
        """
        means = {name: self.stages[name].mean for name in _LIMITS if name in self.stages}
        slowest = max(means, key=lambda name: means[name], default=None)
        return _LIMITS[slowest] if slowest and means[slowest] else None
