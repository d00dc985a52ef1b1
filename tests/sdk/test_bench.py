"""The three levels, the camera's clock, streams, what limits you, nvidia-smi, and the command."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from stylesdk import DeviceError, ModelFileError, SinkError, SourceError, Stylizer
from stylesdk.backends import open_backend
from stylesdk.backends.fake import FakeBackend
from stylesdk.bench import Measured, Settings, bench_frame, measure, measure_levels, run_bench, sustained_streams
from stylesdk.bench.camera import AgeSink, PacedSource, camera_to_sink, flat_out
from stylesdk.bench.limits import Costs, faster_models, limit
from stylesdk.bench.report import costs_of, figures, streams_line, streams_of, table_of
from stylesdk.bench.streams import largest_that_holds, paced
from stylesdk.gpu.nvidia_smi import query_gpu
from stylesdk.latency import Latency, machine_card, percentiles, timed
from stylesdk.live.clock import ticks
from stylesdk.live.sources import SourceFrame
from stylesdk.styles import resolve
from stylesdk.tiles import TILE
from tiny_models import painting_onnx

STAGES = ("preprocess", "inference", "postprocess", "total")


class Clock:
    """A clock that only moves when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class GpuLike(FakeBackend):
    """A backend that tells everything a GPU can tell."""

    cuda_graph = True

    def run_in_place(self, count: int) -> list[float]:
        return [2.0] * count

    def copy_in_place(self, count: int) -> tuple[list[float], list[float]]:
        return [0.25] * count, [0.5] * count


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(painting_onnx(("grey",)))
    return path


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
def test_levels_of_a_real_backend(runtime: str, tiny: Path, frame: np.ndarray) -> None:
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


# The camera's clock


def test_ticks_are_on_time_and_keep_their_time_when_late() -> None:
    clock = Clock()
    moments = ticks(10, clock, clock.sleep)
    assert next(moments) == 100
    assert next(moments) == pytest.approx(100.1) and clock.now == pytest.approx(100.1)
    clock.now += 0.25  # late for two
    assert [next(moments), next(moments)] == pytest.approx([100.2, 100.3]) and clock.now == pytest.approx(100.35)
    assert next(moments) == pytest.approx(100.4) and clock.now == pytest.approx(100.4)
    endless = ticks(float("inf"), clock, clock.sleep)
    assert [next(endless) for _ in range(3)] == [pytest.approx(100.4)] * 3


def test_age_is_from_when_a_frame_was_due(frame: np.ndarray) -> None:
    source = PacedSource(frame, 1000, 3)
    assert source.live and float(source.fps or 0) == 1000
    clock = Clock()
    sink = AgeSink(clock)
    for index, each in enumerate(source):
        assert each.seconds is not None
        clock.now = each.seconds + 0.5 + index
        sink.write(frame, each)
    assert sink.ages == pytest.approx([0.5, 1.5, 2.5], abs=1e-6)
    assert not PacedSource(frame, float("inf"), 3).live


def test_slow_model_drops_frames_of_the_camera(frame: np.ndarray) -> None:
    class Slow(FakeBackend):
        def infer(self, frame: np.ndarray, strength: float, style: Any = None) -> np.ndarray:
            threading.Event().wait(0.02)
            return super().infer(frame, strength, style)

    with Stylizer(backend=Slow()) as stylizer:
        ages, counts = camera_to_sink(stylizer, frame[:16, :16], 10, 1000)
        assert len(ages) == 10 and min(ages) >= 0.02, "the model's time is in the age"
        assert counts.delivered == 13 and counts.dropped > 0
        assert flat_out(stylizer, frame[:16, :16], 10) <= 50, "every frame, each 20 ms at least"


def test_frames_without_a_time_do_not_break_the_sink(frame: np.ndarray) -> None:
    sink = AgeSink(lambda: 3.0)
    sink.write(frame, SourceFrame(frame))
    assert sink.ages == [3.0]


# Streams


@pytest.mark.parametrize("delay", [0.5, 0.999])
def test_a_stream_that_keeps_up(delay: float) -> None:
    clock, stop = Clock(), threading.Event()
    found = paced(lambda: clock.sleep(delay), 200, 1, stop, clock, clock.sleep)
    assert (found.done, found.missed) == (200, 0) and not stop.is_set()
    assert found.seconds == pytest.approx(199 + delay)


@pytest.mark.parametrize("delay", [1.01, 3.0])
def test_a_stream_that_falls_behind_ends_all(delay: float) -> None:
    """Two of 200 deadlines may be missed; the third ends it, so that nobody waits for the rest."""
    clock, stop = Clock(), threading.Event()
    found = paced(lambda: clock.sleep(delay), 200, 1, stop, clock, clock.sleep)
    assert (found.done, found.missed) == (3, 3) and stop.is_set()
    assert found.seconds == pytest.approx(3 * delay)


def test_one_slow_frame_is_forgiven() -> None:
    clock, stop, delays = Clock(), threading.Event(), iter([0.1] * 50 + [1.5] + [0.1] * 149)
    found = paced(lambda: clock.sleep(next(delays)), 200, 1, stop, clock, clock.sleep)
    assert (found.done, found.missed) == (200, 1) and not stop.is_set()


def test_a_stopped_stream_ends() -> None:
    clock, stop = Clock(), threading.Event()
    stop.set()
    assert paced(lambda: clock.sleep(0.1), 10, 1, stop, clock, clock.sleep).done == 0


@pytest.mark.parametrize("limit_at", [0, 1, 2, 3, 5, 6, 7, 8, 11, 64, 100])
def test_largest_number_of_streams(limit_at: int) -> None:
    asked: list[int] = []

    def holds(streams: int) -> bool:
        asked.append(streams)
        return streams <= limit_at

    assert largest_that_holds(holds, 64) == min(limit_at, 64)
    assert len(asked) == len(set(asked)) and max(asked) <= 64


def test_streams_of_real_stylizers(frame: np.ndarray) -> None:
    opened: list[FakeBackend] = []

    def open_one(streams: int) -> Stylizer:
        opened.append(FakeBackend())
        return Stylizer(backend=opened[-1])

    tries = sustained_streams(open_one, frame[:8, :8], 20, seconds=0.5, most=2)
    assert [run.streams for run in tries] in ([1, 2], [1], [1, 2, 1])
    for run in tries:
        assert len(run.fps) == run.streams and all(0 < rate <= 20 for rate in run.fps)
        assert run.held == (run.missed <= 0.01)
    assert all(backend.closed for backend in opened)
    assert json.loads(json.dumps(streams_of(tries)))["held"] == max((r.streams for r in tries if r.held), default=0)


def test_streams_that_cannot_be_opened_do_not_hold(frame: np.ndarray) -> None:
    def open_one(streams: int) -> Stylizer:
        if streams > 1:
            raise DeviceError("out of memory")
        return Stylizer(backend=FakeBackend())

    tries = sustained_streams(open_one, frame[:8, :8], 2, seconds=1)
    assert [(run.streams, run.held) for run in tries] == [(1, True), (2, False)]
    assert "out of memory" in tries[1].why
    assert streams_line(tries, 2).endswith("1, the slowest at 2.0")

    def never(streams: int) -> Stylizer:
        raise DeviceError("no GPU")

    with pytest.raises(DeviceError, match="no GPU"):
        sustained_streams(never, frame, 30)


def test_an_error_in_one_stream_ends_all(frame: np.ndarray) -> None:
    class Broken(FakeBackend):
        def infer(self, frame: np.ndarray, strength: float, style: Any = None) -> np.ndarray:
            if self.frames > 5:
                raise ModelFileError("broken")
            return super().infer(frame, strength, style)

    with pytest.raises(ModelFileError, match="broken"):
        sustained_streams(lambda _: Stylizer(backend=Broken()), frame, 50, seconds=100)


# What limits you


def costs(**changed: float | None) -> Costs:
    values: dict[str, Any] = {"preprocess": 1.0, "inference": 39.0, "postprocess": 10.0, "total": 50.0}
    return Costs(**(values | {"kernel": None, "copies": None, "fps": 30.0, "sustained": 20.0} | changed))


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (costs(), "inference: 78 % of the frame; wave.nano or wave.int8 helps"),
        (costs(kernel=38.0), "inference: 76 % of the frame; wave.nano or wave.int8 helps"),
        (costs(kernel=45.0), "inference: 78 % of the frame; wave.nano or wave.int8 helps"),
        (costs(kernel=9.0), "copies to and from the runtime: 60 % of the frame; a smaller --size helps"),
        (
            costs(kernel=9.0, copies=25.0),
            "copies to and from the runtime: 50 % of the frame; Stylizer.stream overlaps them with the next frame",
        ),
        (
            costs(preprocess=20.0, inference=10.0, postprocess=20.0),
            "preprocess + postprocess: 80 % of the frame; give frames in the model's own size",
        ),
        (costs(sustained=210.2), "the camera: 30 frames/s, the model could do 210"),
        (costs(sustained=30.0, fps=29.97), "the camera: 29.97 frames/s, the model could do 30"),
    ],
)
def test_what_limits_you(found: Costs, line: str) -> None:
    assert limit(found, ["wave.nano", "wave.int8"]) == line


def test_what_limits_you_without_a_faster_model() -> None:
    assert limit(costs()) == "inference: 78 % of the frame; a smaller --size helps"


def test_faster_models_of_the_same_style() -> None:
    bundled = ["six", "udnie", "udnie.int8", "wave", "wave.base", "wave.int8", "wave.nano", "wave.nano.int8"]
    assert faster_models("wave", bundled) == ["wave.nano", "wave.int8"]
    assert faster_models("wave.base", bundled) == ["wave"]
    assert faster_models("wave.nano", bundled) == ["wave.nano.int8"]
    assert faster_models("wave.int8", bundled) == ["wave.nano.int8"]
    assert faster_models("wave.nano.int8", bundled) == []
    assert faster_models("udnie", bundled) == ["udnie.int8"]
    assert faster_models("six:wave", bundled) == []
    assert faster_models("models/wave.onnx", bundled) == []


# nvidia-smi


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program nvidia-smi on PATH that answers as the real one does, and keeps what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        f"print(*sys.argv[1:], file=open({str(tmp_path / 'asked')!r}, 'a'))\n"
        "if '--query-gpu' in sys.argv[1]:\n"
        "    print('NVIDIA H200, 580.65.06, 2048, 143771, 1980, 3201, 41, 312.50')\n"
        "    print('NVIDIA T4, 580.65.06, 1, 15360, 300, 405, [N/A], [Not Supported]')\n"
        "else:\n"
        "    print('1, 900')\n"
        "    print(f'{os.getppid()}, 812')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_nvidia_smi_is_read(smi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    assert query_gpu(busy=lambda: calls.append(1)) == {
        "gpu": "NVIDIA H200",
        "driver": "580.65.06",
        "memory_used_mib": 2048,
        "memory_total_mib": 143771,
        "process_mib": 812,
        "sm_mhz": 1980,
        "memory_mhz": 3201,
        "celsius": 41,
        "watts": 312.5,
    }
    assert calls, "the model works while it looks"
    card = machine_card()
    assert card["gpu"] == "NVIDIA H200" and card["driver"] == "580.65.06"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f,1")
    assert query_gpu() is not None
    assert (tmp_path / "asked").read_text().splitlines()[-1].endswith("-i GPU-8f")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert query_gpu() is None


@pytest.mark.parametrize(
    "body",
    ["exit 9", "echo garbage", "true", "echo 'No devices were found'; exit 6"],
)
def test_nvidia_smi_that_knows_nothing(smi: Path, body: str) -> None:
    smi.write_text(f"#!/bin/sh\n{body}\n")
    assert query_gpu() is None
    assert "gpu" not in machine_card()


def test_nvidia_smi_with_gaps(smi: Path) -> None:
    smi.write_text(
        "#!/bin/sh\ncase $1 in *gpu=*) echo 'NVIDIA GB10, 580.1, [N/A], [N/A], 208, [N/A], 38, 4.1' ;; esac\n"
    )
    found = query_gpu()
    assert found is not None and found["sm_mhz"] == 208
    assert found["memory_used_mib"] is None and found["process_mib"] is None


def test_nvidia_smi_that_hangs_is_left(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylesdk.gpu.nvidia_smi._LONGEST", 0.2)
    smi.write_text("#!/bin/sh\nexec sleep 60\n")
    assert query_gpu() is None
    assert query_gpu(busy=lambda: None) is None


def test_no_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert query_gpu() is None
    card = machine_card()
    assert "gpu" not in card and "onnxruntime" in card["runtimes"] and "openvino" in card["runtimes"]


# The command


def test_report_of_two_models(tiny: Path, tmp_path: Path, smi: Path) -> None:
    output, console = tmp_path / "bench.json", Console(width=100, record=True, file=io.StringIO())
    settings = Settings((96, 160), frames=10, fps=200, device="cpu", threads=1)
    run_bench([str(tiny), "starry_night.nano"], settings, output, console)
    shown = console.export_text()
    report = json.loads(output.read_text())
    assert report["settings"]["size"] == "160x96" and report["machine"]["gpu"] == "NVIDIA H200"
    assert list(report["models"]) == [str(tiny), "starry_night.nano"]
    for entry in report["models"].values():
        assert entry["gpu"]["sm_mhz"] == 1980 and entry["limit"] in shown
        assert entry["kernel"]["count"] == entry["stages"]["total"]["count"] == entry["camera"]["age"]["count"] == 10
    assert "2048.0 of 143771.0 MiB (812.0 by this process)" in shown
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == ["bench.json"], "nothing left over"


def test_nothing_is_measured_when_something_cannot_work(tiny: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    settings = Settings((96, 160), frames=10)
    with pytest.raises(ModelFileError, match="no_style"):
        run_bench([str(tiny), "no_style"], settings, tmp_path / "b.json", console)
    with pytest.raises(SinkError, match="nowhere"):
        run_bench([str(tiny)], settings, tmp_path / "nowhere" / "b.json", console)
    with pytest.raises(SinkError, match="a folder"):
        run_bench([str(tiny)], settings, tmp_path, console)
    with pytest.raises(SourceError, match="8x8"):
        run_bench([str(tiny)], Settings((8, 8)), None, console)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_a_model_that_fails_later_takes_nothing_with_it(tiny: Path, tmp_path: Path) -> None:
    broken, output = tmp_path / "broken.onnx", tmp_path / "b.json"
    broken.write_bytes(tiny.read_bytes()[:-9])
    console = Console(file=io.StringIO())
    with pytest.raises(ModelFileError, match="broken"):
        run_bench([str(tiny), str(broken)], Settings((96, 160), frames=10, fps=500), output, console)
    assert list(json.loads(output.read_text())["models"]) == [str(tiny)]


def test_streams_of_the_command(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores are divided: each of two Stylizers gets half of them, whatever --threads does not say."""
    opened: list[dict[str, Any]] = []

    def watched(*arguments: Any, **options: Any) -> Stylizer:
        opened.append(options)
        return Stylizer(*arguments, **options)

    short = partial(sustained_streams, seconds=0.2, most=2)
    monkeypatch.setattr("stylesdk.bench.report.sustained_streams", short)
    monkeypatch.setattr("stylesdk.bench.report.Stylizer", watched)
    monkeypatch.setattr("stylesdk.bench.report.usable_cores", lambda: 6)
    console = Console(width=100, record=True, file=io.StringIO())
    run_bench([str(tiny)], Settings((96, 160), frames=10, fps=5, device="cpu", streams=True), None, console)
    assert "streams at 5 frames/s: " in console.export_text()
    assert [options.get("threads") for options in opened] == [None, 6, 3, 3]
