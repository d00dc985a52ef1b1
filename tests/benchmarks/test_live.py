"""Short runs of the live benchmarks, and what they ask of figures. Nothing here is about speed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import live
import pytest
import soak
import typer
from watching import Samples, Watching, more_at_the_end

from stylesdk.live.watchdog import WatchedSource


def run_soak(**options: Any) -> int:
    """Its exit code: on a loaded machine a run this short may well miss something."""
    try:
        soak.main(**options)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_live(tmp_path: Path) -> None:
    output = tmp_path / "live.json"
    live.main("starry_night.nano", "160x120", 30, 0.05, 2, 5, "onnxruntime", output)
    report = json.loads(output.read_text(encoding="utf-8"))
    read = report["latency"]["milliseconds"]
    assert read["p99"] >= read["p50"] > 0 and report["latency"]["unreadable"] == 0
    assert read["count"] + report["latency"]["dropped"] == 25, "three more warm up"
    assert len(report["overhead"]["alone"]) == len(report["overhead"]["through_the_pipeline"]) == 2
    dropped = report["age"]["dropped"]
    assert report["age"]["delivered"] + sum(dropped.values()) == 90 and report["age"]["limit"] == "output"
    assert [line["at_most"] for line in report["requirements"]] == [0.05, 0, 2, 1]
    assert report["machine"]["processor"] and report["backend"].startswith("onnxruntime")


def test_soak(tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    options: dict[str, Any] = {"model": "six", "fps": 20, "faster": 10.0, "runtime": "onnxruntime"}
    code = run_soak(minutes=0.12, output=output, **options)
    report = json.loads(output.read_text(encoding="utf-8"))
    assert code == int(not all(line["met"] for line in report["requirements"]))
    assert report["opened"] >= 3 and report["recordings"] >= 2 and report["recorded_bytes"] > 1000
    frames = report["frames"]
    assert 0 < frames["cards"] < frames["delivered"] <= frames["read"]
    samples = report["samples"]
    assert len(samples["rss"]) == len(samples["threads"]) == len(samples["files"]) >= 5
    assert min(samples["rss"]) > 10 and report["age_ms"]["p99"] >= report["age_ms"]["p50"] > 0


def test_scripted_camera_changes_its_size_and_is_unplugged() -> None:
    camera = soak.Camera(30, soak.Script(size=0.4, loss=2.0, loss_for=0.8))
    source, found = WatchedSource("soak", "camera", camera.open, give_up=30), []
    for frame in source:
        found.append(frame)
        # A signal, a loss, and a signal again: twice.
        if camera.opened == 3 and frame.signal:
            source.close()
    assert {frame.image.shape[:2] for frame in found} >= {(480, 640), (240, 320)}
    changes = [after.signal for before, after in pairwise(found) if after.signal != before.signal]
    assert found[0].signal and changes == [False, True, False, True]


def samples(growth: float, threads: int = 0, files: int = 0, minutes: int = 10) -> Samples:
    """A run that takes 300 MiB in its first minute, then ``growth`` a minute; it leaks in its last third."""
    found = Samples()
    for second in range(60 * minutes):
        late = second >= 40 * minutes
        found.seconds.append(second)
        found.rss.append(min(5 * second, 300) + growth * second / 60)
        recording = second % 20 > 12
        found.threads.append(10 + 4 * recording + threads * late)
        found.files.append(20 + recording + files * late)
    return found


@pytest.mark.parametrize(
    ("seen", "last", "missed"),
    [
        (samples(0.2), 50.0, set()),
        (samples(2.0), 50.0, {"memory after warm-up, MiB a minute"}),
        (samples(-2.0), 50.0, set()),
        (samples(0.0, threads=1), 50.0, {"threads, more at the end"}),
        (samples(0.0, files=3), 50.0, {"open files, more at the end"}),
        (samples(0.0), 61.0, {"p99 of ages, the last tenth over the first"}),
    ],
)
def test_what_the_soak_asks(seen: Samples, last: float, missed: set[str]) -> None:
    assert {line.what for line in soak.requirements(seen, 50.0, last) if not line.met} == missed


def test_the_soak_asks_for_a_show() -> None:
    script = soak.Script()
    assert all(line.met for line in soak.happened(16_000, 21, 26, script, 600, 30))
    assert not any(line.met for line in soak.happened(5000, 20, 25, script, 600, 30))


def test_growth_is_that_after_the_warm_up() -> None:
    assert samples(1.5).growth(soak.WARM) == pytest.approx(1.5)
    assert samples(1.5).growth(0.0) > 10
    assert Samples().growth(0.1) == 0 and more_at_the_end([1, 2]) == 0


def test_ages_of_the_first_and_the_last_share() -> None:
    moments = [i / 10 for i in range(1000)]
    ages = [0.5 if t < 30 else 0.02 if t < 50 else 0.04 for t in moments]
    assert soak.p99_over_time(moments, ages, 100) == pytest.approx((20, 40))
    assert soak.p99_over_time([], [], 100) == (0, 0)


def test_watching_sees_memory_threads_and_files(tmp_path: Path) -> None:
    with Watching(every=0.05) as seen:
        while len(seen.files) < 3:
            pass
        block = bytearray(200 * 2**20)
        with (tmp_path / "a").open("wb"), (tmp_path / "b").open("wb"):
            count = len(seen.files)
            while len(seen.files) < count + 3:
                block[::4096] = b"x" * (len(block) // 4096)
    assert max(seen.rss) - min(seen.rss[:3]) > 150
    assert max(seen.files) >= min(seen.files[:3]) + 2
    assert max(seen.threads) >= 2
