"""When TensorRT is taken, and what is said where it cannot be."""

import importlib.util
import json
import re

import pytest
from fake_tensorrt import RTX, make_plan, write_plan
from pretend_machine import inverting_onnx

import stylesdk.engines.machine as module
from stylesdk import Stylizer
from stylesdk.backends import runtime_for
from stylesdk.engines import why_not
from stylesdk.errors import DeviceError, ModelFileError
from stylesdk.gpu import cuda_usable
from stylesdk.manifest import Engine, Manifest, manifest_from_json

HAS_ALL = ("tensorrt_rtx", "pycuda", "onnx", "onnxruntime")


@pytest.fixture
def has(monkeypatch):
    """Pretend that a CUDA device is usable and that just these packages are installed."""

    def install(*packages, cuda=""):
        find = importlib.util.find_spec
        ours = ("tensorrt", *HAS_ALL)
        monkeypatch.setattr(module, "cuda_usable", lambda: cuda)
        monkeypatch.setattr("stylesdk.backends.cuda_usable", lambda: cuda)
        monkeypatch.setattr(
            module.importlib.util,
            "find_spec",
            lambda name, *rest: (object() if name in packages else None) if name in ours else find(name, *rest),
        )

    return install


def test_all_that_is_needed(has):
    has(*HAS_ALL)
    assert why_not() == "" and module.best_flavour() == "tensorrt_rtx"
    assert runtime_for("cuda")[0] == runtime_for("auto")[0] == "tensorrt"
    assert runtime_for("cpu")[0] != "tensorrt"
    has("tensorrt", *HAS_ALL)
    assert module.best_flavour() == "tensorrt"


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        (HAS_ALL[1:], r"no TensorRT: .*stylesdk\[rtx\]"),
        (("tensorrt_rtx", "onnx", "onnxruntime"), r"no package pycuda: .*stylesdk\[rtx\]"),
        (("tensorrt", "pycuda", "onnxruntime"), r"no package onnx: "),
        (("tensorrt", "pycuda", "onnx"), r"no package onnxruntime: .*stylesdk\[cpu\]"),
    ],
)
def test_what_is_missing(has, packages, words, tmp_path):
    has(*packages)
    assert runtime_for("cuda")[0] == "onnxruntime" and runtime_for("auto")[0] != "tensorrt"
    for device in ("auto", "cuda"):
        assert re.search(f"; TensorRT, .*cannot be used: {words}", runtime_for(device)[1])
    assert "TensorRT" not in runtime_for("cpu")[1]
    model = tmp_path / "it.onnx"
    model.write_bytes(inverting_onnx())
    with pytest.raises(DeviceError, match=words):
        Stylizer(model, runtime="tensorrt")


def test_no_gpu_is_told_before_anything_else(has, tmp_path):
    has(*HAS_ALL, cuda="no NVIDIA driver")
    model = tmp_path / "it.onnx"
    model.write_bytes(inverting_onnx())
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        Stylizer(model, runtime="tensorrt", device="cuda")
    assert runtime_for("cuda") == ("onnxruntime", "CUDA was asked for")
    assert "TensorRT" not in runtime_for("auto")[1]  # nothing of a GPU that nobody has
    model.write_bytes(model.read_bytes()[:-9])
    with pytest.raises(ModelFileError):
        Stylizer(model, runtime="tensorrt")


@pytest.mark.skipif(not cuda_usable(), reason="there is a GPU here")
def test_this_machine_has_no_gpu():
    assert why_not() == cuda_usable() != ""


def test_a_driver_without_a_gpu_is_noticed_before_tensorrt_is_imported(machine):
    machine.run(
        """
        try:
            stylizer(runtime="tensorrt")
        except stylesdk.DeviceError as error:
            assert "no GPU" in str(error)
        else:
            raise SystemExit("opened")
        assert "tensorrt_rtx" not in sys.modules and "pycuda.driver" not in sys.modules
        """,
        FAKECUDA_NODEV="1",
    )


def test_an_unsafe_cache_is_an_error_for_cuda_and_a_warning_for_auto(machine):
    machine.kept.mkdir(parents=True, mode=0o700)
    machine.kept.parent.chmod(0o777)
    told = machine.run(
        """
        try:
            stylizer()
        except stylesdk.DeviceError as error:
            print(error)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with stylizer("auto") as it:
                assert (it.run(frame) == 255 - frame).all() and "onnxruntime" in it.backend
        (one,) = caught
        assert "chmod 700" in str(one.message) and one.filename == "<string>"
        """
    ).stdout
    assert "chmod 700" in told and "mode 777" in told
    assert machine.files() == []


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o700, r"onnxruntime \S+ \(CPU\): TensorRT and a CUDA device are usable; onnxruntime serves until"),
        (0o777, r"onnxruntime \S+ \(CPU\): (.|\n)*mode 777(.|\n)*No TensorRT plan: onnxruntime runs"),
    ],
)
def test_the_doctor_tells_what_really_opened(machine, mode, told):
    machine.kept.mkdir(parents=True, mode=0o700)
    machine.kept.parent.chmod(mode)
    out = machine.run(
        """
        import stylesdk.doctor
        from rich.console import Console

        stylesdk.doctor.styles = list  # running every file takes seconds, and is not the question
        stylesdk.doctor.run_doctor(Console(width=400), [])
        """
    ).stdout
    line = out[out.index("ONNX models run on ") :].partition("\nTensorRT plans:")[0]
    assert re.match(f"ONNX models run on {told}", line), line
    assert ("are usable" in line) == (mode == 0o700)


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (("8.6", "8.9"), "EngineMismatchError got: .*built for compute capability 8.6 and 8.9; this machine has 9.0"),
        (("8.9", "9.0"), "opened"),
    ],
)
def test_targets_of_a_plan_of_ones_own(machine, targets, told):
    engine = Engine(RTX.flavour, RTX.version, targets=targets)
    path = write_plan(machine.folder, make_plan((48, 64), (48, 64)), engine)
    out = machine.run(
        """
        try:
            stylesdk.Stylizer(os.environ["PLAN"]).close()
            print("opened")
        except stylesdk.StyleSDKError as error:
            print(type(error).__name__, error)
        """,
        PLAN=str(path),
    ).stdout
    assert re.match(told, out), out


def test_the_engine_of_a_manifest():
    engine = Engine("tensorrt_rtx", "1.7", "GPU", "8.9", "13.0", ("8.6", "8.9"), "ab")
    manifest = Manifest("it", ("it",), 1, "fp16", "x", engine=engine)
    assert manifest_from_json(manifest.to_json(), "it") == manifest
    older = json.loads(manifest.to_json())
    del older["engine"]["targets"], older["engine"]["onnx_sha256"]
    assert manifest_from_json(json.dumps(older), "it").engine == Engine("tensorrt_rtx", "1.7", "GPU", "8.9", "13.0")
    for bad in ("text", ["list"], {"flavour": "x"}, {**older["engine"], "targets": 5}):
        with pytest.raises(ModelFileError, match="does not hold"):
            manifest_from_json(json.dumps(older | {"engine": bad}), "it")
