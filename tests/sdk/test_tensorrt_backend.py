"""The TensorRT backend's host side over the pretend CUDA driver, and what it refuses there."""

import re
from dataclasses import replace

import pytest
from fake_tensorrt import RTX, make_plan, write_plan
from pretend_cuda import live, run_on_pretend_gpu


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path, make_plan((48, 64), (48, 64)))


OPEN = """
    import sys
    import fake_tensorrt
    import numpy as np
    sys.modules["tensorrt_rtx"] = fake_tensorrt
    import stylesdk
    from stylesdk.backends.fake import FakeBackend
    from stylesdk.gpu.device import Device
    Device.kernels = lambda device: None  # on the pretend driver they would do nothing
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
    assert (first == kept).all(), "after close, too"
    del first, out
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
    """,
    )
    assert live(done.stderr) == NOTHING


def test_several_styles_are_another_input(tmp_path):
    names = ("invert", "dark", "light")
    done = run(
        write_plan(tmp_path, make_plan((48, 64), (48, 64), styles=3), styles=names),
        """
    names = ("invert", "dark", "light")
    reference = stylesdk.Stylizer(backend=FakeBackend((48, 64), names))
    frame = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    with stylesdk.Stylizer(path + ":light") as stylizer:
        assert stylizer.styles == names
        assert (stylizer.run(frame) == 100).all()
        for _ in range(50):
            for style in (*names, {"invert": 1, "dark": 3}, {"dark": 0.5, "light": 0.5}):
                assert (stylizer.run(frame, 0.7, style) == reference.run(frame, 0.7, style)).all(), style
    """,
    )
    assert done.stderr.count("cuMemAlloc_v2") == 4
    assert done.stderr.count("cuMemHostAlloc") == 3 + 1, "frame, strength, style; and the result"
    assert live(done.stderr) == NOTHING


@pytest.mark.parametrize(
    ("styles", "behaviour", "words"),
    [
        (("a", "b"), {}, "no input 'style'"),
        (("a", "b"), {"styles": 3}, r"shape \[3\]"),
        (("a",), {"styles": 1}, r"shape \[1\]"),
        (("a", "b"), {"styles": 2, "style_type": "HALF"}, "HALF"),
    ],
)
def test_styles_of_plan_and_sidecar_that_disagree(tmp_path, styles, behaviour, words):
    done = run(write_plan(tmp_path, make_plan((48, 64), (48, 64), **behaviour), styles=styles), REFUSED)
    assert re.search(f"ModelFileError(.|\n)*{words}", done.stdout), done.stdout
    assert live(done.stderr) == NOTHING


def test_several_styles_need_the_sidecar_that_names_them(tmp_path):
    path = write_plan(tmp_path, make_plan((48, 64), (48, 64), styles=2), styles=("a", "b"))
    path.with_name("engine.plan.json").unlink()
    done = run(path, "    import warnings\n    warnings.simplefilter('ignore')\n" + REFUSED)
    assert "ModelFileError" in done.stdout and "no manifest" in done.stdout and ".plan.json" in done.stdout


def test_ten_thousand_frames_allocate_nothing(plan):
    done = run(
        plan,
        """
    frame = np.zeros((48, 64, 3), np.uint8)
    with stylesdk.Stylizer(path) as stylizer:
        for index in range(5000):
            assert stylizer.run(frame)[0, 0, 0] == 255
        assert sum(int(out[0, 0, 0] == 255) for out in stylizer.stream(frame for _ in range(5000))) == 5000
    """,
    )
    assert done.stderr.count("cuMemcpyDtoHAsync_v2 -> 0") == 10_000
    # Three tensors of each of two frames under way; results come from a pool.
    assert done.stderr.count("cuMemAlloc_v2") == 6
    assert done.stderr.count("cuMemHostAlloc") <= 4 + 3
    assert done.stderr.count("cuStreamCreate") == 2
    assert done.stderr.count("cuEventCreate") == 6
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
