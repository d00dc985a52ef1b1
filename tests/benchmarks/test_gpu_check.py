"""Which files the rows of gpu_check measure. What they measure needs a GPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gpu_basics
import gpu_check
import pytest

from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Every row of a check without --model that runs a model, and the file that it opens."""

    def build(model: Path, plan: Path, **_: Any) -> None:
        plan.write_bytes(model.read_bytes())

    def opened(model: Any, *_: Any) -> gpu_check.Figures:
        return {"file": str(model() if callable(model) else gpu_basics.shipped_model(model))}

    for name in ("ort_pixels", "stylizer_latency", "ort_graph", "engine_pixels", "engine_graph", "engine_limits"):
        monkeypatch.setattr(gpu_check, name, opened)
    monkeypatch.setattr("styleexport.engine_from_onnx.engine_from_onnx", build)
    for flavour in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, flavour, ModuleType(flavour))
    rows = gpu_check.checks(argparse.Namespace(model=None, steps=1), tmp_path)
    models = {
        name: check for name, check in rows if not name.startswith(("copies", "training")) and "reference" not in name
    }
    return {name: Path(str(check()["file"])) for name, check in models.items()}


def test_every_row_measures_starry_night_in_its_precision(measured: dict[str, Path]) -> None:
    assert len(measured) == 19
    wanted = manifest_from_onnx(resolve("starry_night").read_bytes(), "it")
    for row, path in measured.items():
        manifest = manifest_from_onnx(path.read_bytes(), row)
        exact = row == "onnxruntime CUDA: right pixels"
        assert manifest.precision == ("fp32" if exact else "fp16"), row
        assert manifest.training == wanted.training, row


def test_converted_once_and_the_given_file_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = gpu_basics.half_model(None, tmp_path)
    assert half.parent == tmp_path
    monkeypatch.setattr(gpu_basics, "need", lambda _: pytest.fail("converted again"))
    assert gpu_basics.half_model(None, tmp_path) == half
    assert gpu_basics.half_model("mine.onnx", tmp_path) == gpu_basics.shipped_model("mine.onnx") == Path("mine.onnx")


def test_without_starry_night_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_basics, "STYLES", tmp_path)
    with pytest.raises(gpu_basics.NotRun, match="--model"):
        gpu_basics.shipped_model(None)
    for name in ("starry_night.base.onnx", "a.onnx"):
        (tmp_path / name).touch()
    assert gpu_basics.shipped_model(None).name == "a.onnx"
