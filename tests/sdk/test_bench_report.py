"""What limits you, nvidia-smi, and the command."""

from __future__ import annotations

import io
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stylesdk import ModelFileError, SinkError, SourceError, Stylizer
from stylesdk.bench import Settings, run_bench, sustained_streams
from stylesdk.bench.limits import Costs, faster_models, limit
from stylesdk.gpu.nvidia_smi import query_gpu
from stylesdk.latency import machine_card
from tiny_models import painting_onnx


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(painting_onnx(("grey",)))
    return path


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
