"""Figures of a run: percentiles of late and of all, and what limits it."""

from __future__ import annotations

import numpy as np
import pytest

from stylesdk.live import Counts
from stylesdk.live.progress import RECENT, Timing


def test_percentiles_of_all_are_right_to_one_percent() -> None:
    seconds = np.random.default_rng(0).lognormal(-4, 1, 5000)
    timing = Timing()
    for value in seconds:
        timing.add(float(value))
    exact = np.percentile(seconds, (50, 90, 99, 99.9)) * 1e3
    run = timing.run
    assert (run.p50, run.p90, run.p99, run.p99_9) == pytest.approx(tuple(exact), rel=0.02)
    assert (run.count, timing.count) == (5000, 5000)
    assert timing.recent.p50 == pytest.approx(np.median(seconds[-RECENT:]) * 1e3)
    assert timing.mean == pytest.approx(seconds[-RECENT:].mean())


def test_few_none_and_extremes() -> None:
    timing = Timing()
    assert (timing.run.count, timing.recent.count, timing.mean) == (0, 0, 0)
    for value in (0.0, -1.0, 0.02, 1e9):
        timing.add(value)
    assert (timing.run.count, timing.recent.count, timing.run.p99_9) == (4, 4, None)
    assert timing.run.p50 == pytest.approx(0.001, rel=0.02) and timing.run.p99 > 3e6


def test_recent_forgets_and_memory_stays() -> None:
    timing = Timing()
    for value in [1.0] * 1000 + [0.001] * RECENT:
        timing.add(value)
    assert timing.recent.p99 == pytest.approx(1) and timing.run.p90 == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(
    ("capture", "style", "deliver", "limit"),
    [(33, 20, 5, "camera"), (33, 50, 5, "style"), (33, 50, 90, "output"), (1, 20, 30, "output"), (0, 0, 0, None)],
)
def test_the_slowest_stage_limits(capture: float, style: float, deliver: float, limit: str | None) -> None:
    stages = {name: Timing() for name in ("capture", "style", "deliver", "age")}
    for name, value in zip(stages, (capture, style, deliver, 500), strict=True):
        stages[name].add(value / 1e3)
    assert Counts(1, 1, 0, 1.0, stages=stages).limit == limit
    assert Counts(1, 1, 0, 1.0).limit is None
