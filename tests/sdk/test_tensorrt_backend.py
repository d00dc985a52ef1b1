"""The TensorRT backend without a GPU: what it refuses, and its host side over the pretend CUDA driver."""

import hashlib
import re
import sys
from dataclasses import replace

import fake_tensorrt
import pytest
from fake_tensorrt import make_plan
from pretend_cuda import live, run_on_pretend_gpu

import stylesdk.backends.tensorrt as backend
import stylesdk.gpu.device as device
from stylesdk import Stylizer
from stylesdk.errors import DeviceError, EngineMismatchError, MissingExtraError, ModelFileError
from stylesdk.manifest import Engine, Manifest

RTX = Engine("tensorrt_rtx", "1.7.1.116")


def write_plan(folder, plan, engine=RTX):
    """A plan and its sidecar; returns the plan's path."""
    manifest = Manifest("invert", ("invert",), 1, "fp32", "Apache-2.0", hashlib.sha256(plan).hexdigest())
    path = folder / "engine.plan"
    path.write_bytes(plan)
    sidecar = replace(manifest, opt_size=(720, 1280), engine=engine)
    (folder / "engine.plan.json").write_text(sidecar.to_json())
    return path


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

    monkeypatch.setattr(device.ctypes, "CDLL", no_library)
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


OPEN = """
    import sys
    import fake_tensorrt
    import numpy as np
    sys.modules["tensorrt_rtx"] = fake_tensorrt
    import stylesdk
    from stylesdk.backends.fake import FakeBackend
    path = {path!r}
"""
REFUSED = """
    try:
        stylesdk.Stylizer(path)
    except stylesdk.StyleSDKError as error:
        print(type(error).__name__, error)
    else:
        raise SystemExit("opened")
"""
NOTHING = {"device": 0, "pinned": 0, "streams": 0, "events": 0}


def run(path, code, **environment):
    return run_on_pretend_gpu(OPEN.format(path=str(path)) + code, FAKECUDA_LOG="1", **environment)


def test_right_pixels_fixed_size(plan):
    done = run(
        plan,
        """
    random = np.random.default_rng(1)
    reference = stylesdk.Stylizer(backend=FakeBackend(canvas=(48, 64)))
    with stylesdk.Stylizer(path) as stylizer:
        assert stylizer.backend == "tensorrt_rtx 1.7.1.116 (Fake GPU)", stylizer.backend
        assert stylizer.manifest.styles == ("invert",)
        for size in ((48, 64), (30, 90), (100, 70), (48, 64)):
            for strength in (0.0, 0.3, 1.0):
                frame = random.integers(0, 256, (*size, 3), np.uint8)
                out = stylizer.run(frame, strength)
                assert (out == reference.run(frame, strength)).all(), size
        first = stylizer.run(frame, 1.0)
        kept = first.copy()
        stylizer.run(255 - frame, 1.0)
        assert (first == kept).all(), "the result is the caller's to keep"
    """,
    )
    assert live(done.stderr) == NOTHING


def test_right_pixels_and_clamped_canvas_of_a_profile(tmp_path):
    done = run(
        write_plan(tmp_path, make_plan((32, 32), (96, 128))),
        """
    random = np.random.default_rng(1)
    with stylesdk.Stylizer(path) as stylizer:
        assert [stylizer._backend.canvas(s) for s in ((48, 64), (8, 200), (500, 16))] == [
            (48, 64), (32, 128), (96, 32)]
        for size in ((48, 64), (96, 128), (33, 57), (8, 200), (48, 64)):
            frame = random.integers(0, 256, (*size, 3), np.uint8)
            with stylesdk.Stylizer(backend=FakeBackend(canvas=stylizer._backend.canvas(size))) as reference:
                assert (stylizer.run(frame) == reference.run(frame)).all(), size
            assert stylizer._backend._context.shape == (1, *stylizer._backend.canvas(size), 3)
    """,
    )
    assert live(done.stderr) == NOTHING


def test_a_thousand_frames_allocate_nothing(plan):
    done = run(
        plan,
        """
    frame = np.zeros((48, 64, 3), np.uint8)
    with stylesdk.Stylizer(path) as stylizer:
        for _ in range(1000):
            assert stylizer.run(frame)[0, 0, 0] == 255
    """,
    )
    assert done.stderr.count("cuMemcpyDtoHAsync_v2 -> 0") == 1000
    assert done.stderr.count("cuMemAlloc_v2") == done.stderr.count("cuMemHostAlloc") == 3
    assert done.stderr.count("cuStreamCreate") == 1
    assert live(done.stderr) == NOTHING


def test_two_stylizers_in_two_threads(plan):
    done = run(
        plan,
        """
    from concurrent.futures import ThreadPoolExecutor

    def work(value):
        frame = np.full((48, 64, 3), value, np.uint8)
        with stylesdk.Stylizer(path) as stylizer:
            return all((stylizer.run(frame) == 255 - value).all() for _ in range(200))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (10, 200, 30, 40))) == [True] * 4
    """,
    )
    assert live(done.stderr) == NOTHING


def test_opened_here_used_and_closed_on_another_thread(plan):
    done = run(
        plan,
        """
    import threading
    stylizer = stylesdk.Stylizer(path)
    seen = []
    def work():
        seen.append(stylizer.run(np.zeros((48, 64, 3), np.uint8)).min())
        stylizer.close()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [255]
    """,
    )
    assert live(done.stderr) == NOTHING


def test_out_of_memory(tmp_path):
    done = run(write_plan(tmp_path, make_plan((40_000, 80_000), (40_000, 80_000))), REFUSED)
    assert "DeviceError got: Fake GPU is out of memory" in done.stdout
    assert live(done.stderr) == NOTHING


def test_driver_without_a_gpu(plan):
    done = run(plan, REFUSED + "    assert 'pycuda.driver' not in sys.modules\n", FAKECUDA_NODEV="1")
    assert "DeviceError" in done.stdout and "no GPU" in done.stdout


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (replace(RTX, gpu="NVIDIA T4"), "built for GPU NVIDIA T4; this machine has Fake GPU"),
        (replace(RTX, compute_capability="8.9"), "built for compute capability 8.9; this machine has 9.0"),
    ],
)
def test_other_gpu(tmp_path, engine, words):
    # A plan that would be refused by TensorRT too: the sidecar must speak first.
    done = run(write_plan(tmp_path, make_plan((48, 64), (48, 64), refuse="too late"), engine), REFUSED)
    assert "EngineMismatchError" in done.stdout and words in done.stdout
    assert live(done.stderr) == NOTHING


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"refuse": "incompatible serialization version"}, "EngineMismatchError.*refuses: incompatible"),
        ({"no_context": 1}, "DeviceError.*no execution context"),
        ({"output": "logits"}, "ModelFileError.*logits"),
        ({"extra": 8}, r"ModelFileError.*\(1, 56, 64, 3\)"),
    ],
)
def test_what_tensorrt_refuses_frees_everything(tmp_path, behaviour, words):
    done = run(write_plan(tmp_path, make_plan((48, 64), (48, 64), **behaviour)), REFUSED)
    assert re.search(words, done.stdout), done.stdout
    assert live(done.stderr) == NOTHING


def test_a_failed_frame_is_an_error_with_tensorrts_words(tmp_path):
    done = run(
        write_plan(tmp_path, make_plan((48, 64), (48, 64), fail=1)),
        """
    with stylesdk.Stylizer(path) as stylizer:
        try:
            stylizer.run(np.zeros((48, 64, 3), np.uint8))
        except stylesdk.errors.DeviceError as error:
            assert "kernel launch failed" in str(error)
        else:
            raise SystemExit("no error")
    """,
    )
    assert live(done.stderr) == NOTHING


def test_other_version_is_told_before_the_missing_gpu(plan, monkeypatch):
    """The sidecar against the installed package, without importing it."""
    monkeypatch.setattr("stylesdk.backends.tensorrt._installed_version", lambda flavour: "99.1")
    with pytest.raises(EngineMismatchError, match=r"this machine has 99\.1"):
        Stylizer(plan)
