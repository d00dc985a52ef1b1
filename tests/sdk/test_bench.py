"""Percentiles, and the three levels that a backend is measured at."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from stylesdk import SourceError, Stylizer
from stylesdk.backends import open_backend
from stylesdk.backends.fake import FakeBackend
from stylesdk.bench import Measured, bench_frame, measure, measure_levels
from stylesdk.bench.report import costs_of, figures, table_of
from stylesdk.latency import Latency, percentiles, timed
from stylesdk.styles import resolve
from stylesdk.tiles import TILE
from tiny_models import painting_onnx

STAGES = ("preprocess", "inference", "postprocess", "total")


class GpuLike(FakeBackend):
    """A backend that tells everything a GPU can tell."""

    cuda_graph = True

    def run_in_place(self, count: int) -> list[float]:
        return [2.0] * count

    def copy_in_place(self, count: int) -> tuple[list[float], list[float]]:
        return [0.25] * count, [0.5] * count


# Percentiles


def test_p99_9_is_told_from_a_thousand_runs_on() -> None:
    values = [i / 1e3 for i in range(1, 1001)]  # 1 to 1000 ms
    found = percentiles(values)
    assert (found.p50, found.p90, found.p99) == pytest.approx((500.5, 900.1, 990.01))
    assert found.p99_9 == pytest.approx(999.001) and found.count == 1000
    assert percentiles(values[:999]).p99_9 is None
    assert percentiles([]).count == 0 and percentiles([]).p99_9 is None


def test_measure_keeps_more_than_a_stylizer_remembers(frame: np.ndarray) -> None:
    backend = FakeBackend()
    with Stylizer(backend=backend) as stylizer:
        found = measure(stylizer, frame[:8, :8], 2300)
        assert len(stylizer.latency.seconds("total")) == 300
    assert backend.frames == 2300 + 230, "runs and warm-up"
    assert {stage: found[stage]["count"] for stage in STAGES} == dict.fromkeys(STAGES, 2300)
    assert found["total"]["p99_9"] >= found["total"]["p99"]


def test_latency_gives_durations_oldest_first() -> None:
    latency = Latency()
    for _ in range(3):
        with latency.stage("total"):
            pass
    assert len(latency.seconds("total")) == 3 and latency.seconds("inference") == []
    latency.seconds("total").clear()
    assert latency["total"].count == 3, "a copy"


def test_timed_calls_as_often_as_it_says() -> None:
    calls: list[int] = []
    assert len(timed(lambda: calls.append(1), 7)) == len(calls) == 7


# Levels


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_run_in_place_leaves_the_pictures_right(runtime: str, tmp_path: Path, frame: np.ndarray) -> None:
    path = tmp_path / "two.onnx"
    path.write_bytes(painting_onnx(("dark", "light"), 2))
    backend: Any = open_backend(path, "cpu", 1, runtime)
    weights = np.array([0.0, 1.0], np.float32)
    assert backend.run_in_place(3) == [], "no frame yet"
    for picture in (frame, frame[:64, :48].copy()):
        before = picture.copy()
        styled = backend.infer(picture, 0.5, weights)
        kept = styled.copy()
        assert len(backend.run_in_place(4)) == 4 and min(backend.run_in_place(4)) > 0
        np.testing.assert_array_equal(styled, kept, err_msg="the caller's result changed")
        np.testing.assert_array_equal(picture, before)
        np.testing.assert_array_equal(backend.infer(picture, 0.5, weights), kept)
    backend.close()


class Watched:
    """An onnxruntime session that keeps what bound runs have written."""

    def __init__(self, session: Any) -> None:
        self._session, self.written = session, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
        self.written.append(binding.copy_outputs_to_cpu()[0][0])


def test_run_in_place_of_onnxruntime_is_an_inference_each(frame: np.ndarray) -> None:
    backend: Any = open_backend(resolve("starry_night.nano"), "cpu", 1, "onnxruntime")
    wanted = backend.infer(frame, 0.7)
    runner = backend._runner
    runner._session = Watched(runner._session)
    backend.run_in_place(3)
    assert len(runner._session.written) == 3
    for found in runner._session.written:
        np.testing.assert_array_equal(found, wanted)
    backend.close()


def test_run_in_place_of_openvino_is_an_inference_each(frame: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = open_backend(resolve("starry_night.nano"), "cpu", 1, "openvino")
    wanted, written = backend.infer(frame, 0.7), []

    def watched(call: Any, count: int) -> list[float]:
        request = next(iter(backend._requests.values()))
        for _ in range(count):
            request.get_output_tensor().data[:] = 0
            call()
            written.append(request.get_output_tensor().data[0].copy())
        return [1.0] * count

    monkeypatch.setattr("stylesdk.backends.openvino.timed", watched)
    assert backend.run_in_place(3) == [1.0] * 3 and len(written) == 3
    for found in written:
        np.testing.assert_array_equal(found, wanted)
    backend.close()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_levels_of_a_real_backend(runtime: str, tmp_path: Path, frame: np.ndarray) -> None:
    tiny = tmp_path / "tiny.onnx"
    tiny.write_bytes(painting_onnx(("grey",)))
    backend = open_backend(tiny, "cpu", 1, runtime)
    with Stylizer(backend=backend) as stylizer:
        found = measure_levels(stylizer, backend, frame, 12, 200)
    assert found.backend == backend.name and found.cuda_graph is None
    assert {level: len(values) for level, values in found.seconds.items()} == dict.fromkeys(
        (*STAGES, "kernel", "camera to sink"), 12
    )
    assert all(value > 0 for values in found.seconds.values() for value in values)
    assert found.delivered == 15 and len(found.sustained) == 1 and found.sustained[0] > 0
    report = figures(found)
    assert report["copies"] is None and report["kernel"]["count"] == 12
    assert report["camera"]["age"]["count"] == 12 and report["camera"]["fps"] == 200
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_levels_of_a_backend_that_tells_nothing(frame: np.ndarray) -> None:
    backend = FakeBackend()
    with Stylizer(backend=backend) as stylizer:
        found = measure_levels(stylizer, backend, frame, 10, 500)
    report = figures(found)
    assert report["kernel"] is None and report["copies"] is None and report["cuda_graph"] is None
    assert costs_of(found).kernel is None and costs_of(found).copies is None


class BuildingLike(FakeBackend):
    """Draws by itself until it is waited for, then by what was built."""

    def __init__(self) -> None:
        super().__init__()
        self.serving: Any = self

    def wait(self, timeout: float | None = None) -> bool:
        self.serving = GpuLike()
        return True


def test_what_is_being_built_is_waited_for_and_measured(frame: np.ndarray) -> None:
    backend = BuildingLike()
    with Stylizer(backend=backend) as stylizer:
        found = measure_levels(stylizer, backend, frame, 5, 200)
    assert found.median("kernel") == pytest.approx(2) and found.cuda_graph is True


def test_levels_of_a_backend_that_tells_everything(frame: np.ndarray) -> None:
    backend = GpuLike()
    with Stylizer(backend=backend) as stylizer:
        found = measure_levels(stylizer, backend, frame, 10, 500)
    report = figures(found)
    assert report["cuda_graph"] is True
    assert report["kernel"]["p50"] == pytest.approx(2) and report["kernel"]["p99_9"] is None
    assert report["copies"]["in"]["p50"] == pytest.approx(0.25)
    assert report["copies"]["out"]["p50"] == pytest.approx(0.5)
    assert costs_of(found).copies == pytest.approx(0.75)


def test_a_frame_in_tiles_is_never_in_place() -> None:
    backend = GpuLike()
    backend.manifest = backend.manifest and type(backend.manifest)(
        "fake", ("invert",), 1, "fp32", "Apache-2.0", reach=16
    )
    large = np.zeros((TILE + 8, TILE, 3), np.uint8)
    with Stylizer(backend=backend) as stylizer:
        assert figures(measure_levels(stylizer, backend, large, 3, 500))["kernel"] is None
        assert figures(measure_levels(stylizer, backend, large[:64, :64], 3, 500))["kernel"]["count"] == 3


def test_rounds_add_up() -> None:
    one = Measured("a", None, 30, {"total": [0.1], "kernel": [0.2]}, 3, 1, [10.0])
    one.add(Measured("a", None, 30, {"total": [0.3], "kernel": [0.4]}, 4, 2, [20.0]))
    assert one.seconds == {"total": [0.1, 0.3], "kernel": [0.2, 0.4]}
    assert (one.delivered, one.dropped, one.sustained) == (7, 3, [10.0, 20.0])
    assert one.median("total") == pytest.approx(200) and one.median("copy in") is None


def test_table_shows_what_is_not_known() -> None:
    seconds = {stage: [0.002] * 10 for stage in STAGES} | {"kernel": [0.001] * 1000, "camera to sink": [0.004] * 10}
    found = Measured("fake (CPU)", None, 30, seconds, 10, 0, [400.0])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_of("wave[1]", found))
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:-1] for line in console.export_text().splitlines() if "│" in line
    }
    cells = {name: [cell.strip() for cell in row] for name, row in rows.items()}
    assert cells["kernel, in place"] == ["1.00", "1.00", "1.00", "1.00", "1000", "1000.0"]
    assert cells["run, host to host"] == ["2.00", "2.00", "2.00", "-", "10", "500.0"]
    assert cells["copy in"] == ["-", "-", "-", "-", "-", ""]
    assert cells["pipeline, flat out"][-1] == "400.0"


def test_frames_too_small_for_the_scene() -> None:
    assert bench_frame((16, 16)).shape == (16, 16, 3)
    with pytest.raises(SourceError, match=r"64x15(.|\n)*16x16"):
        bench_frame((15, 64))
