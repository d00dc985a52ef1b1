"""The process that builds a plan: with the real TensorRT for RTX, which needs no GPU, and without torch."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from test_engine import write_invert

from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.errors import ExportError
from stylesdk.engines.build import build_plan
from stylesdk.engines.key import EngineKey
from stylesdk.engines.lock import Cancelled
from stylesdk.errors import DeviceError
from stylesdk.manifest import manifest_from_json
from stylesdk.styles import resolve

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
SMALL = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (48, 64), "flavour": "tensorrt_rtx"}
WITHOUT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric", "safetensors", "onnxscript", "tensorboard"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
sys.argv = ["build_engine", sys.argv[1]]
from styleexport.build_engine import main
status = main()
assert "torch" not in sys.modules
sys.exit(status)
"""


def key_of(model, precision="fp16"):
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return EngineKey(digest, precision, "tensorrt_rtx", trt.__version__, "", "8.9", "", (48, 64))


def request_for(model, plan, key):
    request = {"model": str(model), "plan": str(plan), "sha256": key.onnx_sha256, "sizes": [key.size] * 3}
    return json.dumps(request | {"flavour": key.flavour, "targets": key.targets})


def sidecar(plan):
    return manifest_from_json(plan.with_name(plan.name + ".json").read_text(), str(plan))


def test_an_fp32_file_becomes_an_fp16_plan(tmp_path):
    model, plan, seen = resolve("starry_night.nano"), tmp_path / "it.plan", []
    build_plan(model, plan, key_of(model), lambda *told: seen.append(told), threading.Event())
    assert plan.read_bytes()[:4] == b"vtrt"
    written = sidecar(plan)
    assert (written.precision, written.name, written.max_size) == ("fp16", "starry_night.nano", (48, 64))
    assert written.sha256 == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert (written.engine.version, written.engine.gpu) == (trt.__version__, "")
    assert seen and seen[-1][1] == 1.0 and all(isinstance(phase, str) for phase, _ in seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it.plan", "it.plan.json"]


@pytest.mark.parametrize("name", ["starry_night.nano", "starry_night.nano.int8", "six"])
def test_builds_where_torch_is_not_installed(tmp_path, name):
    model, plan = resolve(name), tmp_path / "it.plan"
    # stdin stays open: its end is the end of the build.
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT, request_for(model, plan, key_of(model))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        errors = child.stderr.read()
        assert child.wait(120) == 0, errors
    assert sidecar(plan).precision == ("int8" if "int8" in name else "fp16")


def test_the_end_of_stdin_ends_it(tmp_path):
    model, plan = resolve("starry_night"), tmp_path / "it.plan"
    command = [sys.executable, "-m", "styleexport.build_engine", request_for(model, plan, key_of(model))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and not plan.exists()


def test_errors_come_back_in_words(tmp_path):
    bad = write_invert(tmp_path / "bad.onnx", middle="Det")
    with pytest.raises(DeviceError, match=r"(?s)bad\.onnx failed with status 1.*the_middle \(Det\)"):
        build_plan(bad, tmp_path / "it.plan", key_of(bad), None, threading.Event())
    bad.write_bytes(bad.read_bytes()[:-9])
    with pytest.raises(DeviceError, match="truncated"):
        build_plan(bad, tmp_path / "it.plan", key_of(bad), None, threading.Event())
    with pytest.raises(DeviceError, match="changed after it was opened"):
        build_plan(bad, tmp_path / "it.plan", replace(key_of(bad), onnx_sha256="0" * 64), None, threading.Event())
    with pytest.raises(DeviceError, match="flavour 'openvino'"):
        good = write_invert(bad)
        build_plan(good, tmp_path / "it.plan", replace(key_of(good), flavour="openvino"), None, threading.Event())
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_called_off_before_and_during_the_build(tmp_path):
    model, plan, cancelled = resolve("starry_night"), tmp_path / "it.plan", threading.Event()

    def stop(phase, done):
        cancelled.set()

    for progress in (stop, None):  # the second time it is set already
        with pytest.raises(Cancelled):
            build_plan(model, plan, key_of(model), progress, cancelled)
    assert threading.active_count() == 1


def test_an_error_in_progress_ends_the_child_and_is_raised(tmp_path):
    def fail(phase, done):
        raise RuntimeError("no more")

    model = resolve("starry_night")
    with pytest.raises(RuntimeError, match="no more"):
        build_plan(model, tmp_path / "it.plan", key_of(model), fail, threading.Event())
    assert threading.active_count() == 1


def test_words_of_a_library_on_stdout_are_no_progress(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text('print("hello from a library"); print("{", flush=True)')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    model, seen = resolve("starry_night.nano"), []
    build_plan(model, tmp_path / "it.plan", key_of(model), lambda *told: seen.append(told), threading.Event())
    assert seen


@pytest.fixture
def model(tmp_path):
    return write_invert(tmp_path / "invert.onnx")


@pytest.mark.parametrize("targets", [("8.9",), ("8.6", "8.9", "12.0"), ("7.5",)])
def test_targets_are_in_the_sidecar(model, tmp_path, targets):
    manifest = engine_from_onnx(model, tmp_path / "a.plan", **SMALL, targets=targets)
    assert manifest.engine.targets == sidecar(tmp_path / "a.plan").engine.targets == targets
    assert manifest.engine.gpu == manifest.engine.compute_capability == ""


def test_a_plan_for_turing_is_another_plan(model, tmp_path):
    for name, targets in (("portable", ()), ("turing", ("7.5",))):
        engine_from_onnx(model, tmp_path / f"{name}.plan", **SMALL, targets=targets)
    assert (tmp_path / "portable.plan").read_bytes() != (tmp_path / "turing.plan").read_bytes()


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (("9.9",), rf"(?s)target 9\.9.*7\.5, 8\.0, 8\.6, 8\.9.*{trt.__version__} has"),
        (("SM89",), "target SM89"),
        (("8.9", "8.9"), "each once"),
        (("7.5", "8.6"), "(?s)Turing.*by itself.*one plan for 7.5"),
    ],
)
def test_targets_that_make_no_plan(model, tmp_path, targets, words):
    with pytest.raises(ExportError, match=words):
        engine_from_onnx(model, tmp_path / "a.plan", **SMALL, targets=targets)
    assert not (tmp_path / "a.plan").exists()


def test_precision_converts_fp32_and_nothing_else(model, tmp_path):
    single = resolve("starry_night.nano")
    for source, asked, got in (
        (single, None, "fp32"),
        (single, "fp16", "fp16"),
        (model, "fp16", "fp16"),
        (resolve("wave.int8"), "fp16", "int8"),
    ):
        assert engine_from_onnx(source, tmp_path / "a.plan", **SMALL, precision=asked).precision == got
