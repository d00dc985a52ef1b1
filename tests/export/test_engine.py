"""Plans built by the real TensorRT for RTX on the CPU. None is executed here: right pixels need a GPU."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import styleexport.engine_from_onnx as module
from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.errors import ExportError
from stylesdk import Stylizer
from stylesdk.errors import DeviceError, ModelFileError
from stylesdk.gpu import cuda_usable
from stylesdk.manifest import KEY, Engine, Manifest, manifest_from_json, sha256_of_onnx
from stylesdk.onnx_file import manifest_from_onnx

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
SMALL = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (48, 64)}


def write_invert(path, middle="Identity"):
    """An fp16 model in the frame contract that inverts; ``middle`` is the operator of one more node."""
    half = TensorProto.FLOAT16
    constants = {"two": 2.0, "full": 255.0, "none": 0.0}
    nodes = [
        helper.make_node("Cast", ["frame"], ["photo"], to=half),
        helper.make_node("Cast", ["strength"], ["much"], to=half),
        helper.make_node(middle, ["photo"], ["middle"], name="the_middle"),
        helper.make_node("Mul", ["middle", "two"], ["twice"]),
        helper.make_node("Sub", ["full", "twice"], ["change"]),
        helper.make_node("Mul", ["change", "much"], ["part"]),
        helper.make_node("Add", ["photo", "part"], ["blend"]),
        helper.make_node("Clip", ["blend", "none", "full"], ["inside"]),
        helper.make_node("Round", ["inside"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["styled"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "invert",
        [
            helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, "H", "W", 3]),
            helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("styled", TensorProto.UINT8, [1, "H", "W", 3])],
        [numpy_helper.from_array(np.array(v, np.float16), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    manifest = Manifest("invert", ("invert",), 1, "fp16", "Apache-2.0", quality={"why": "test"})
    helper.set_model_props(model, {KEY: manifest.to_json()})
    data = model.SerializeToString()
    digest = sha256_of_onnx(data, manifest)
    path.write_bytes(data.replace(manifest.sha256.encode(), digest.encode(), 1))
    return path


@pytest.fixture
def model(tmp_path):
    return write_invert(tmp_path / "invert.onnx")


def test_the_model_of_these_tests_keeps_the_contract(model):
    onnx.checker.check_model(onnx.load(model))
    assert manifest_from_onnx(model.read_bytes(), "it").styles == ("invert",)
    with Stylizer(model, device="cpu") as stylizer:
        frame = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
        assert (stylizer.run(frame) == 255 - frame).all()


def test_fixed_size_plan_and_its_sidecar(model, tmp_path):
    plan = tmp_path / "invert.plan"
    returned = engine_from_onnx(model, plan, **SMALL, flavour="tensorrt_rtx")
    data = plan.read_bytes()
    sidecar = manifest_from_json((tmp_path / "invert.plan.json").read_text(), "it")
    assert sidecar == returned
    assert sidecar.sha256 == hashlib.sha256(data).hexdigest()
    assert (sidecar.min_size, sidecar.opt_size, sidecar.max_size) == ((48, 64),) * 3
    assert (sidecar.name, sidecar.precision, sidecar.quality) == ("invert", "fp16", {"why": "test"})
    assert sidecar.engine == Engine("tensorrt_rtx", trt.__version__), "a portable plan names no GPU"
    # What the SDK reads out of the header, where there is no sidecar.
    assert data[:4] == b"vtrt" and int.from_bytes(data[16:24], "little") == len(data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["invert.onnx", "invert.plan", "invert.plan.json"]


def test_dynamic_plan_of_the_same_bytes_each_time(model, tmp_path):
    sizes = {"min_size": (240, 320), "opt_size": (480, 640), "max_size": (720, 1280)}
    first = engine_from_onnx(model, tmp_path / "a.plan", **sizes, flavour="tensorrt_rtx")
    again = engine_from_onnx(model, tmp_path / "b.plan", **sizes, flavour="tensorrt_rtx")
    assert (first.min_size, first.opt_size, first.max_size) == tuple(sizes.values())
    assert first.sha256 == again.sha256


@pytest.mark.skipif(not cuda_usable(), reason="there is a GPU here: the plan would open")
def test_the_plan_is_accepted_up_to_the_missing_gpu(model, tmp_path):
    engine_from_onnx(model, tmp_path / "invert.plan", **SMALL)
    with pytest.raises(DeviceError, match="NVIDIA"):
        Stylizer(tmp_path / "invert.plan")


@pytest.mark.skipif(not cuda_usable(), reason="there is a GPU here")
def test_tensorrt_proper_wants_a_gpu(model, tmp_path):
    with pytest.raises(ExportError, match="on which TensorRT builds"):
        engine_from_onnx(model, tmp_path / "invert.plan", **SMALL, flavour="tensorrt")


def test_progress_is_reported(model, tmp_path):
    seen = []
    engine_from_onnx(model, tmp_path / "a.plan", **SMALL, flavour="tensorrt_rtx", progress=lambda *a: seen.append(a))
    assert seen and all(isinstance(phase, str) and 0 <= done <= 1 for phase, done in seen)
    assert seen[-1][1] == 1.0


def test_an_interrupt_in_progress_ends_the_build_and_is_raised(model, tmp_path):
    def interrupt(phase, done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(model, tmp_path / "a.plan", **SMALL, flavour="tensorrt_rtx", progress=interrupt)
    assert not (tmp_path / "a.plan").exists()


def test_unsupported_operator_is_named_and_the_old_plan_stays(model, tmp_path):
    plan = tmp_path / "invert.plan"
    engine_from_onnx(model, plan, **SMALL, flavour="tensorrt_rtx")
    before = plan.read_bytes(), (tmp_path / "invert.plan.json").read_bytes()
    bad = write_invert(tmp_path / "bad.onnx", middle="Det")
    with pytest.raises(ExportError) as caught:
        engine_from_onnx(bad, plan, **SMALL, flavour="tensorrt_rtx")
    assert "the_middle (Det)" in str(caught.value) and "Do this" in str(caught.value)
    # A builder in the traceback is freed at any time, inside another build too, where it waits forever.
    kept = [type(v).__module__ for entry in caught.traceback for v in entry.locals.values()]
    assert not [module for module in kept if "tensorrt" in module]
    assert (plan.read_bytes(), (tmp_path / "invert.plan.json").read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "bad.onnx",
        "invert.onnx",
        "invert.plan",
        "invert.plan.json",
    ]


def test_full_disk_leaves_the_old_plan(model, tmp_path, monkeypatch):
    plan = tmp_path / "invert.plan"
    engine_from_onnx(model, plan, **SMALL, flavour="tensorrt_rtx")
    before = plan.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(ExportError, match="No space left"):
        engine_from_onnx(model, plan, min_size=(64, 64), opt_size=(64, 64), max_size=(64, 64), flavour="tensorrt_rtx")
    assert plan.read_bytes() == before
    assert json.loads((tmp_path / "invert.plan.json").read_text())["min_size"] == [48, 64]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["invert.onnx", "invert.plan", "invert.plan.json"]


def test_a_stop_between_the_two_files_leaves_no_stale_sidecar(model, tmp_path, monkeypatch):
    plan = tmp_path / "invert.plan"
    engine_from_onnx(model, plan, **SMALL, flavour="tensorrt_rtx")
    replace = Path.replace

    def power_cut(self, target):
        if target.suffix == ".json":
            raise OSError("power cut")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", power_cut)
    with pytest.raises(ExportError):
        engine_from_onnx(model, plan, min_size=(64, 64), opt_size=(64, 64), max_size=(64, 64), flavour="tensorrt_rtx")
    assert not (tmp_path / "invert.plan.json").exists(), "the old sidecar beside the new plan"


@pytest.mark.parametrize(
    ("low", "opt", "high"),
    [
        ((8, 64), (48, 64), (48, 64)),
        ((48, 64), (48, 32), (48, 64)),
        ((48, 64), (96, 64), (48, 64)),
        ((0, 0), (0, 0), (0, 0)),
    ],
)
def test_bad_sizes(model, tmp_path, low, opt, high):
    with pytest.raises(ExportError, match="16 <= min <= opt <= max"):
        engine_from_onnx(model, tmp_path / "a.plan", min_size=low, opt_size=opt, max_size=high)


def test_unknown_flavour_missing_folder_and_damaged_model(model, tmp_path):
    with pytest.raises(ExportError, match="flavour 'openvino'"):
        engine_from_onnx(model, tmp_path / "a.plan", **SMALL, flavour="openvino")
    with pytest.raises(ExportError, match="no folder"):
        engine_from_onnx(model, tmp_path / "nowhere" / "a.plan", **SMALL)
    model.write_bytes(model.read_bytes()[:-9])
    with pytest.raises(ModelFileError):
        engine_from_onnx(model, tmp_path / "a.plan", **SMALL)
