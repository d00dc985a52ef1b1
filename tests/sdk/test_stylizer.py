"""Stylizer on the fake and on onnxruntime, and everything that it refuses."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import stylesdk
from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.frames import fit_for, fitted, restored
from stylesdk.styles import resolve

Frame = np.ndarray


def test_run_returns_the_callers_own_frame(frame: Frame) -> None:
    before = frame.copy()
    with Stylizer(backend=FakeBackend()) as stylizer:
        out = stylizer.run(frame)
        np.testing.assert_array_equal(out, 255 - before)
        out[:] = 0
    np.testing.assert_array_equal(frame, before)


def test_strength_goes_from_photo_to_style(frame: Frame) -> None:
    with Stylizer(backend=FakeBackend()) as stylizer:
        np.testing.assert_array_equal(stylizer.run(frame, 0.0), frame)
        assert np.abs(stylizer.run(frame, 0.5).astype(int) - 127.5).max() <= 0.5
        with pytest.raises(stylesdk.FrameError, match=r"strength 1\.5"):
            stylizer.run(frame, 1.5)
        np.testing.assert_array_equal(stylizer.run(frame, np.float32(1)), 255 - frame)


@pytest.mark.parametrize("strength", ["0.5", None, np.array([0.5]), float("nan"), -0.1])
def test_a_strength_that_is_no_number_from_0_to_1(frame: Frame, strength: object) -> None:
    with Stylizer(backend=FakeBackend()) as stylizer, pytest.raises(stylesdk.FrameError, match="a number, 0 to 1"):
        stylizer.run(frame, strength)  # type: ignore[call-overload]


def test_fixed_size_backend_takes_any_frame() -> None:
    """A wide frame in a 96x96 canvas comes back in its own size, in the right place."""
    rows = np.linspace(0, 255, 40).astype(np.uint8)[:, None, None]
    frame = np.ascontiguousarray(np.broadcast_to(rows, (40, 200, 3)))
    backend = FakeBackend(canvas=(96, 96))
    with Stylizer(backend=backend) as stylizer:
        out = stylizer.run(frame)
    assert out.shape == frame.shape
    assert np.abs(out.astype(int) - (255 - frame)).max() <= 16  # half the size and back


@pytest.mark.parametrize("source", [(480, 640), (1, 1), (7, 1000), (720, 1280), (1080, 1920)])
def test_fit_stays_inside_the_canvas(source: tuple[int, int]) -> None:
    fit = fit_for(source, (720, 1280))
    assert fit.inner[0] <= 720 and fit.inner[1] <= 1280
    assert fit.inner[0] == 720 or fit.inner[1] == 1280
    canvas = fitted(np.zeros((*source, 3), np.uint8), fit)
    assert canvas.shape == (720, 1280, 3)
    assert restored(canvas, fit).shape == (*source, 3)


def test_non_contiguous_frame_is_accepted(frame: Frame) -> None:
    with Stylizer(backend=FakeBackend()) as stylizer:
        np.testing.assert_array_equal(stylizer.run(frame[:, ::-1]), 255 - frame[:, ::-1])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32.*uint8"),
        (np.zeros((4, 4), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 1), np.uint8), r"\(4, 4, 1\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (None, "None"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_bad_frames(bad: object, words: str) -> None:
    with Stylizer(backend=FakeBackend()) as stylizer:
        with pytest.raises(stylesdk.FrameError, match=f"(?s)got:.*{words}|(?s:{words})"):
            stylizer.run(bad)  # type: ignore[arg-type]
        assert stylizer.latency["total"].count == 0


def test_stream_keeps_order_and_is_lazy(frame: Frame) -> None:
    backend = FakeBackend()
    with Stylizer(backend=backend) as stylizer:
        frames = [np.full_like(frame, value) for value in (10, 20, 30)]
        stream = stylizer.stream(iter(frames))
        assert backend.frames == 0
        assert [int(out[0, 0, 0]) for out in stream] == [245, 235, 225]


def test_close_is_final_and_may_be_repeated(frame: Frame) -> None:
    backend = FakeBackend()
    stylizer = Stylizer(backend=backend)
    stylizer.close()
    stylizer.close()
    assert backend.closed
    with pytest.raises(stylesdk.ClosedError):
        stylizer.run(frame)


def test_latency_counts_every_stage(frame: Frame) -> None:
    with Stylizer(backend=FakeBackend()) as stylizer:
        for _ in range(5):
            stylizer.run(frame)
        latency = stylizer.latency
        assert {stage: value.count for stage, value in latency.items()} == {
            "preprocess": 5,
            "inference": 5,
            "postprocess": 5,
            "total": 5,
        }
        assert latency["total"].p50 >= latency["inference"].p50 > 0
        assert latency["total"].p50 <= latency["total"].p90 <= latency["total"].p99


@pytest.mark.parametrize("size", [(479, 641), (64, 48), (16, 16), (101, 333)])
def test_bundled_style_keeps_any_size(size: tuple[int, int]) -> None:
    from stylesdk.live.scene import render_frame

    frame = render_frame(0, 100, (480, 640))[: size[0], : size[1]]
    with Stylizer("starry_night", device="cpu") as stylizer:
        assert stylizer.backend.startswith("openvino")  # which the tests' extra brings, the fastest on a CPU
        out = stylizer.run(frame)
        assert out.shape == frame.shape and out.dtype == np.uint8
        np.testing.assert_array_equal(stylizer.run(frame, 0.0), frame)
        assert np.abs(out.astype(int) - frame).mean() > 5


def test_two_stylizers_in_two_threads(frame: Frame) -> None:
    results: dict[int, Frame] = {}

    def style(index: int) -> None:
        with Stylizer("starry_night", device="cpu", threads=1) as stylizer:
            for _ in range(5):
                results[index] = stylizer.run(frame)

    threads = [threading.Thread(target=style, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results[0], results[1])


def test_styles_lists_what_is_bundled() -> None:
    found = stylesdk.styles()
    assert "starry_night" in [style.name for style in found]
    for style in found:
        assert style.bytes <= (3_000_000 if len(style.manifest.styles) > 1 else 1_500_000)
        assert style.manifest.sha256 != "0" * 64
        assert (style.path.parent / f"{style.name.split('.')[0]}.md").is_file(), "no model card"
    assert sum(path.stat().st_size for path in found[0].path.parent.glob("*.onnx")) <= 12_000_000


def test_unknown_style_names_the_known_ones() -> None:
    with pytest.raises(stylesdk.ModelFileError, match="starry_night"):
        resolve("no_such_style")


@pytest.mark.parametrize("name", ["wave.base.int8", "wave.nan0", "udnie.nano", "six.int8"])
def test_wrong_file_of_a_bundled_style_names_its_files(name: str) -> None:
    with pytest.raises(stylesdk.ModelFileError, match=f"no style named '{name}'") as told:
        Stylizer(name)
    style = name.split(".")[0]
    listed = str(told.value).split("one of ")[1].split(", or the path")[0].split(", ")
    assert listed == [found.name for found in stylesdk.styles() if found.name.split(".")[0] == style]


def test_unknown_style_with_a_dot_names_all() -> None:
    with pytest.raises(stylesdk.ModelFileError, match=r"no style named 'wavee\.nano'(.|\n)*starry_night(.|\n)*wave"):
        resolve("wavee.nano")


@pytest.mark.parametrize("text", ["mine.onnx", "wave.base.ONNX", "mine.plan", "mine.Engine", "./wave.nan0", "runs/it"])
def test_what_looks_like_a_path_is_one(text: str) -> None:
    assert resolve(text) == Path(text)


def test_what_exists_and_what_is_a_path_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(Path("wave.foo")) == Path("wave.foo")
    with pytest.raises(stylesdk.ModelFileError, match=r"suffix \.foo"):
        Stylizer(Path("wave.foo"))
    (tmp_path / "wave.foo").touch()
    assert resolve("wave.foo") == Path("wave.foo")
    with pytest.raises(stylesdk.ModelFileError, match=r"suffix \.foo"):
        Stylizer("wave.foo")


def test_device_that_cannot_be_had() -> None:
    with pytest.raises(stylesdk.DeviceError, match="tpu"):
        Stylizer("starry_night", device="tpu")


def test_cuda_without_cuda_is_an_error_not_a_slow_cpu() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(stylesdk.DeviceError, match=r"uninstall -y onnxruntime"):
        Stylizer("starry_night", device="cuda")


def test_path_with_a_foreign_suffix(tmp_path: Path) -> None:
    with pytest.raises(stylesdk.ModelFileError, match=r"\.pt"):
        Stylizer(tmp_path / "model.pt")
