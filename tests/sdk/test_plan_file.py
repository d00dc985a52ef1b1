"""Plans without a GPU: what is refused by the file, its sidecar, and what is installed."""

import sys

import fake_tensorrt
import pytest
from fake_tensorrt import make_plan, write_plan

import stylesdk.backends.tensorrt as backend
from stylesdk import Stylizer
from stylesdk.errors import DeviceError, EngineMismatchError, MissingExtraError, ModelFileError
from stylesdk.manifest import Engine


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path, make_plan((48, 64), (48, 64)))


@pytest.fixture
def pretend_usable(monkeypatch):
    """Gets past the question for a driver, to what comes before the GPU is opened."""
    monkeypatch.setattr(backend, "cuda_usable", lambda: "")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt)


def flip(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda d: d[:-1], lambda d: d[: len(d) // 2], lambda d: d + b"\0", lambda d: bytes(range(200))],
    ids=["bit", "last byte", "half", "longer", "random"],
)
def test_damaged_plan_is_refused_by_its_sidecar(plan, damage):
    plan.write_bytes(damage(plan.read_bytes()))
    with pytest.raises(ModelFileError, match=r"engine\.plan.*SHA-256"):
        Stylizer(plan)


@pytest.mark.parametrize(
    "data", [bytes(range(200)), b"vtrt", make_plan((48, 64), (48, 64))[:-1], b"\x08\x0a onnx" * 50]
)
def test_damaged_plan_is_refused_without_a_sidecar(tmp_path, data):
    path = tmp_path / "engine.plan"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="plan"):
        Stylizer(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":1}'])
def test_damaged_sidecar(plan, text):
    plan.with_name("engine.plan.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"engine\.plan\.json"):
        Stylizer(plan)


def test_missing_plan(tmp_path):
    with pytest.raises(ModelFileError, match="No such file"):
        Stylizer(tmp_path / "engine.plan")


def test_warning_of_a_missing_sidecar_points_at_the_callers_line(plan):
    plan.with_name("engine.plan.json").unlink()
    with pytest.warns(UserWarning, match="may go unnoticed") as caught, pytest.raises(DeviceError):
        Stylizer(plan, device="cpu")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", ["cpu", "tpu"])
def test_a_plan_runs_on_a_gpu_only(plan, name):
    with pytest.raises(DeviceError, match="auto or cuda"):
        Stylizer(plan, device=name)


def test_no_driver(plan, monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr("stylesdk.gpu.driver.ctypes.CDLL", no_library)
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        Stylizer(plan)


def test_missing_package_names_the_extra(plan, pretend_usable, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match=r"stylesdk\[rtx\]"):
        Stylizer(plan)


def test_flavour_of_a_plan_without_sidecar_is_in_its_header(plan, pretend_usable, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    plan.with_name("engine.plan.json").unlink()
    plan.write_bytes(b"ftrt" + plan.read_bytes()[4:])
    with pytest.warns(UserWarning), pytest.raises(MissingExtraError, match=r"stylesdk\[tensorrt\]"):
        Stylizer(plan)


def test_other_tensorrt_is_refused_before_the_gpu_is_opened(plan, pretend_usable):
    write_plan(plan.parent, plan.read_bytes(), Engine("tensorrt_rtx", "1.6.0.23"))
    with pytest.raises(EngineMismatchError) as caught:
        Stylizer(plan)
    text = str(caught.value)
    assert "1.6.0.23" in text and "1.7.1.116" in text
    assert "stylesdk export RUN --format engine --size 1280x720" in text


def test_other_version_is_told_before_the_missing_gpu(plan, monkeypatch):
    """The sidecar against the installed package, without importing it."""
    monkeypatch.setattr("stylesdk.backends.tensorrt.installed_version", lambda flavour: "99.1")
    with pytest.raises(EngineMismatchError, match=r"this machine has 99\.1"):
        Stylizer(plan)
