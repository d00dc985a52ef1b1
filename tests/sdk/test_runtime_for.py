"""Which runtime ONNX files get, what is said of it, and what runs where OpenVINO does not work."""

from __future__ import annotations

import builtins
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import openvino
import pytest
from rich.console import Console

from stylesdk import DeviceError, Stylizer
from stylesdk.backends import runtime_for
from stylesdk.backends.fake import FakeBackend
from stylesdk.doctor import run_doctor

CPU_BEST = (
    r"OpenVINO is installed, and is the fastest on CPUs; (bf16: the CPU computes in it|fp32: the CPU has no bf16)"
)
CPU_OTHER = r"OpenVINO, faster on CPUs, is not installed: .*\[openvino\]'"
GPU_BEST = r"TensorRT and a CUDA device are usable; onnxruntime serves until the plan is built"
CUDA = r"onnxruntime-gpu is installed and a CUDA device is usable"
NO_PLANS = r"; TensorRT, the fastest on GPUs, cannot be used: no TensorRT"

# packages, why CUDA and TensorRT cannot be used -> what is said for device auto
MACHINES = [
    (("openvino",), "no driver", "no driver", "openvino", CPU_BEST),
    ((), "no driver", "no driver", "onnxruntime", CPU_OTHER),
    (("openvino", "onnxruntime-gpu"), "no driver", "no driver", "openvino", CPU_BEST),
    (("openvino",), "", "no TensorRT", "openvino", CPU_BEST + NO_PLANS),
    ((), "", "no TensorRT", "onnxruntime", CPU_OTHER + NO_PLANS),
    (("openvino", "onnxruntime-gpu"), "", "no TensorRT", "onnxruntime", CUDA + NO_PLANS),
    (("openvino", "onnxruntime-gpu"), "", "", "tensorrt", GPU_BEST),
]


@pytest.mark.parametrize(("packages", "no_cuda", "no_plans", "runtime", "words"), MACHINES)
def test_runtime_and_the_doctors_line(
    packages: tuple[str, ...],
    no_cuda: str,
    no_plans: str,
    runtime: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place(monkeypatch, packages, no_cuda, no_plans)
    monkeypatch.setattr("stylesdk.engines.EngineBackend", lambda *_, **__: FakeBackend())
    found, why = runtime_for("auto")
    assert found == runtime and re.fullmatch(words, why), why
    opens = "fake" if runtime == "tensorrt" else runtime
    line = doctors_line(monkeypatch)
    assert re.fullmatch(f"ONNX models run on {opens}.*: {words}", line), line


def test_an_asked_device_is_told_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, ("openvino", "onnxruntime-gpu"), "", "no TensorRT")
    assert runtime_for("cpu")[0] == "openvino" and re.fullmatch(CPU_BEST, runtime_for("cpu")[1])
    runtime, why = runtime_for("cuda")
    assert runtime == "onnxruntime" and re.fullmatch(f"CUDA was asked for{NO_PLANS}", why)


def test_the_doctor_does_not_praise_a_tensorrt_that_did_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DeviceError("a cache with mode 777", do="chmod 700")

    place(monkeypatch, ("openvino",), "", "")
    monkeypatch.setattr("stylesdk.engines.EngineBackend", fail)
    line = doctors_line(monkeypatch)
    assert re.match(r"ONNX models run on onnxruntime .*: got: a cache with mode 777", line)
    assert "are usable" not in line


@pytest.mark.parametrize(("capabilities", "precision"), [(["BF16", "FP32"], "bf16"), (["FP32"], "fp32")])
def test_the_precision_that_is_told_is_the_one_that_runs(
    capabilities: list[str], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling = Mock()
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: capabilities)
    monkeypatch.setattr(openvino.Core, "compile_model", compiling)
    assert f"; {precision}: the CPU " in runtime_for("cpu")[1]
    with Stylizer("wave.nano", device="cpu") as stylizer:
        assert stylizer.backend.endswith(f"(CPU, {precision})")
        stylizer._backend._request((64, 64, 3))
    options = compiling.call_args.args[-1]
    assert options["INFERENCE_PRECISION_HINT"] == {"bf16": "bf16", "fp32": "f32"}[precision]


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_broken_openvino_gives_way_to_onnxruntime(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        broken_openvino(monkeypatch),
        pytest.warns(UserWarning, match=r"libtbb(.|\n)*onnxruntime.* runs") as told,
        Stylizer("wave.nano", device=device) as stylizer,
    ):
        assert stylizer.backend.startswith("onnxruntime")
    assert [warning.filename for warning in told] == [__file__]


def test_an_openvino_without_its_plugin_for_cpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_plugin(*_: object) -> None:
        raise RuntimeError('Exception from core.cpp:268:\nDevice with "CPU" name is not registered')

    monkeypatch.setattr(openvino.Core, "get_property", no_plugin)
    with pytest.warns(UserWarning, match="is not registered"), Stylizer("wave.nano", device="cpu") as stylizer:
        assert stylizer.backend.startswith("onnxruntime")


def test_a_broken_openvino_that_was_asked_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with broken_openvino(monkeypatch), pytest.raises(DeviceError, match=r"libtbb(.|\n)*--force-reinstall openvino"):
        Stylizer("wave.nano", runtime="openvino")


def test_the_doctor_of_a_broken_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, ("openvino",), "", "no TensorRT")
    with broken_openvino(monkeypatch):
        line = doctors_line(monkeypatch)
    why = r"OpenVINO does not work: libtbb.*; to mend it: python -m pip install --force-reinstall openvino"
    assert re.fullmatch(f"ONNX models run on onnxruntime .*: {why}{NO_PLANS}", line), line


def place(monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], no_cuda: str, no_plans: str) -> None:
    """A machine with these packages, and why CUDA and TensorRT cannot be used on it."""
    monkeypatch.setattr("stylesdk.backends.installed", lambda package: "1" if package in packages else "")
    monkeypatch.setattr("stylesdk.backends.cuda_usable", lambda: no_cuda)
    monkeypatch.setattr("stylesdk.engines.why_not", lambda: no_plans)


@contextmanager
def broken_openvino(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An OpenVINO that is installed and lacks a library."""
    importing = builtins.__import__

    def fail(name: str, *rest: Any) -> Any:
        if name == "openvino":
            raise ImportError("libtbb.so.12: cannot open shared object file")
        return importing(name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", fail)
        yield


def doctors_line(monkeypatch: pytest.MonkeyPatch) -> str:
    """What the doctor says of ONNX models."""
    monkeypatch.setattr("stylesdk.doctor.styles", list)  # running every file takes seconds, and is not the question
    console = Console(width=400, record=True, file=io.StringIO())
    run_doctor(console, [])
    return next(line for line in console.export_text().splitlines() if line.startswith("ONNX models"))
