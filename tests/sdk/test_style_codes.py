"""Styles that are codes, pictures, or the model's own choice: known answers, and everything that is refused."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

import stylesdk
from stylesdk import Stylizer
from stylesdk.backends import QueueingBackend
from stylesdk.backends.fake import FakeBackend
from stylesdk.batch.cli import _everywhere as everywhere
from stylesdk.companion import Companion
from stylesdk.engines.gate import check_accuracy
from stylesdk.mix import split_style
from stylesdk.onnx_file import manifest_from_onnx
from tiny_models import CODES, coded_onnx, painting_onnx, picture_onnx, write_with_companions

NAMES = ("low", "high")  # paint 40 and 120
MIXED = ("wave", "udnie", "scream")  # paint 40, 120 and 250


def colour(blue: int, green: int, red: int, size: tuple[int, int] = (20, 24)) -> np.ndarray:
    return np.full((*size, 3), (blue, green, red), np.uint8)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    """The encoder sums blue, green and red; the chooser takes half of that."""
    companions = {
        "encoder": picture_onnx("encoder", "paint", NAMES),
        "chooser": picture_onnx("chooser", "paint", NAMES, 0.5),
    }
    return write_with_companions(tmp_path, coded_onnx(), companions)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Weights, no codes; the chooser weighs the styles by the photo's blue, green and red."""
    companions = {"chooser": picture_onnx("chooser", "paint", MIXED, 1 / 255)}
    return write_with_companions(tmp_path, painting_onnx(MIXED, 3), companions)


def opened(model: Path | str, runtime: str = "onnxruntime") -> Stylizer:
    return Stylizer(model, device="cpu", runtime=runtime, threads=1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_names_mixes_codes_and_pictures_on_each_runtime(coded: Path, frame: np.ndarray, runtime: str) -> None:
    code = stylesdk.encode(colour(10, 20, 60), coded)
    assert (code.dtype, code.tolist()) == (np.float32, [10.0, 20.0, 60.0])
    with opened(coded, runtime) as stylizer:
        assert stylizer.takes_codes and stylizer.styles == NAMES
        answers: list[tuple[Any, int]] = [
            (None, 40),
            ("high", 120),
            ({"low": 1, "high": 3}, 100),
            (code, 90),
            (0.5 * code + 0.5 * np.array(CODES[1], np.float32), 105),
            (code.astype(np.float64), 90),
            (colour(10, 20, 60), 90),
            ("auto", round(float(frame.mean((0, 1)).sum()) / 2)),
        ]
        for style, level in answers:
            assert abs(int(stylizer.run(frame, style=style)[0, 0, 0]) - level) <= (style is answers[-1][0]), style
            assert [out[0, 0, 0] for out in stylizer.stream([frame] * 2, style=style)] == [
                stylizer.run(frame, style=style)[0, 0, 0]
            ] * 2
        half = stylizer.run(colour(0, 0, 0), 0.5, code)
        assert (half == 45).all()


def test_default_style_after_the_colon(coded: Path, tmp_path: Path, frame: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a picture.png"), colour(1, 2, 3))
    for suffix, level, default in (
        ("high", 120, {"high": 1.0}),
        ("low,high", 80, {"low": 0.5, "high": 0.5}),
        (str(tmp_path / "a picture.png"), 6, {}),
    ):
        with opened(f"{coded}:{suffix}") as stylizer:
            assert stylizer.default_style == default
            assert (stylizer.run(frame) == level).all()
            assert (stylizer.run(frame, style="low") == 40).all()
            assert (stylizer.run(frame) == level).all(), "a style asked for once is not kept"


def test_auto_chooses_for_each_photo_and_for_a_stream_by_its_first_frame(coded: Path) -> None:
    photos = [colour(20, 40, 60), colour(100, 50, 50)]
    with opened(f"{coded}:auto") as stylizer:
        assert stylizer.default_style == {}
        assert [int(stylizer.run(photo)[0, 0, 0]) for photo in photos] == [60, 100]
        assert [int(out[0, 0, 0]) for out in stylizer.stream(photos)] == [60, 60]
        assert list(stylizer.stream([])) == []
        assert stylizer.choose(photos[1]).tolist() == [50, 25, 25]  # type: ignore[union-attr]
        with pytest.raises(stylesdk.FrameError, match="None"):
            stylizer.run(None)  # type: ignore[call-overload]
        with pytest.raises(stylesdk.StyleError, match="photo to choose by of 9x9"):
            stylizer.run(colour(1, 2, 3, (9, 9)))


def test_auto_of_a_model_that_mixes(mixed: Path) -> None:
    with opened(f"{mixed}:auto") as stylizer:
        assert not stylizer.takes_codes
        assert (stylizer.run(colour(0, 77, 0)) == 120).all()
        assert (stylizer.run(colour(90, 90, 0)) == 80).all()
        assert [int(out[0, 0, 0]) for out in stylizer.stream([colour(9, 0, 0), colour(0, 9, 0)])] == [40, 40]
        chosen = stylizer.choose(colour(51, 0, 0))
        assert chosen == pytest.approx({"wave": 0.2, "udnie": 0, "scream": 0})
        assert (stylizer.run(colour(0, 0, 0), style=chosen) == 40).all()
        with pytest.raises(stylesdk.StyleError, match="has no encoder"):
            stylizer.run(colour(1, 2, 3), style=colour(1, 2, 3))
        with pytest.raises(stylesdk.StyleError, match="type ndarray"):
            stylizer.run(colour(1, 2, 3), style=np.ones(3, np.float32))
        with pytest.raises(stylesdk.StyleError, match="at least one above 0"):
            stylizer.run(colour(0, 0, 0))  # nothing to weigh by


def test_a_style_that_is_called_auto_is_a_name(tmp_path: Path, frame: np.ndarray) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(painting_onnx(("manual", "auto"), 2))
    with opened(f"{path}:auto") as stylizer:
        assert stylizer.default_style == {"auto": 1.0}
        assert (stylizer.run(frame) == 120).all() and (stylizer.run(frame, style="auto") == 120).all()
        assert (next(iter(stylizer.stream([frame], style="auto"))) == 120).all()


class Queueing(FakeBackend):
    """Has frames under way, as a plan has."""

    def submit(self, frame: np.ndarray, strength: float, style: np.ndarray | None = None) -> np.ndarray:
        return self.infer(frame, strength, style)

    def collect(self, ticket: np.ndarray) -> np.ndarray:
        return ticket

    def drop(self, ticket: np.ndarray) -> None:
        pass


def test_auto_on_a_queueing_backend(coded: Path) -> None:
    backend = Queueing()
    backend.manifest = manifest_from_onnx(coded.read_bytes(), "it")
    backend._takes_code = True
    with Stylizer(f"{coded}:auto", backend=backend) as stylizer:
        assert isinstance(backend, QueueingBackend)
        for style in (None, "auto"):
            assert list(stylizer.stream([], style=style)) == []
            photos = [colour(20, 40, 60), colour(100, 50, 50)]
            assert [int(out[0, 0, 0]) for out in stylizer.stream(iter(photos), style=style)] == [60, 60]


def test_a_closed_stylizer_has_no_companions_left(coded: Path) -> None:
    stylizer = opened(f"{coded}:auto")
    stylizer.run(colour(1, 2, 3), style=colour(1, 2, 3))
    companions = [weakref.ref(each) for each in stylizer._palette._companions.values()]
    assert len(companions) == 2
    stylizer.close()
    gc.collect()
    assert [each() for each in companions] == [None, None]
    for call in (lambda: stylizer.choose(colour(1, 2, 3)), lambda: stylizer.style_input("low")):
        with pytest.raises(stylesdk.ClosedError, match=r"got: (choose|style_input)\(\) on a closed"):
            call()
    stylizer.close()


def test_what_the_graph_gets_is_the_callers_to_change(coded: Path) -> None:
    code = np.array([7, 0, 1], np.float32)
    with opened(coded) as stylizer:
        for style, level in ((None, 40), (code, 8)):
            found = stylizer.style_input(style)
            assert found is not None
            found += 50
            assert (stylizer.run(colour(1, 2, 3), style=style) == level).all()
    assert code.tolist() == [7, 0, 1]


def test_encoding_and_choosing_belong_to_a_frames_latency(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, run = [0.0], Companion.run

    def slow(companion: Companion, picture: object) -> np.ndarray:
        now[0] += 5
        return run(companion, picture)

    monkeypatch.setattr(Companion, "run", slow)
    monkeypatch.setattr("stylesdk.latency.time", SimpleNamespace(perf_counter=lambda: now[0]))
    with opened(coded) as stylizer:
        for style in ("auto", colour(1, 2, 3), "low"):
            stylizer.run(colour(4, 5, 6), style=style)
        for stage, seconds in (("total", [5, 5, 0]), ("preprocess", [5, 5, 0]), ("inference", [0, 0, 0])):
            assert stylizer.latency.seconds(stage) == seconds


def test_large_pictures_are_scaled_down_and_the_callers_array_stays(coded: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (700, 2400, 3), dtype=np.uint8)
    before = large.copy()
    code = stylesdk.encode(large, coded)
    np.testing.assert_allclose(code, large.mean((0, 1)), atol=1)
    np.testing.assert_array_equal(large, before)
    np.testing.assert_array_equal(
        stylesdk.encode(large[:600:2, :900:2], coded), large[:600:2, :900:2].mean((0, 1), np.float32)
    )


@pytest.mark.parametrize(
    ("style", "words"),
    [
        (np.ones(2, np.float32), r"float32 \(2,\).*finite float32 \(3,\)"),
        (np.ones((1, 3), np.float32), r"float32 \(1, 3\)"),
        (np.ones(3, np.int64), "int64"),
        (np.array([1, np.nan, 1], np.float32), "NaN"),
        (np.array([1, 1e300, 1]), "infinity"),
        (np.zeros((20, 20), np.uint8), r"style picture.*\(20, 20\)"),
        (np.zeros((0, 20, 3), np.uint8), "empty"),
        (colour(1, 2, 3, (15, 400)), "400x15.*16x16"),
        (np.zeros((20, 20, 3), np.float32), r"float32 \(20, 20, 3\).*picture, BGR uint8"),
        ("nope", "one of low, high"),
        ({"low": -1}, "none below 0"),
        (3, "type int"),
        ([1.0, 2.0, 3.0], r"type list.*code, a numpy array float32 \(C,\).*a picture, BGR uint8"),
        ((1.0, 2.0, 3.0), r"type tuple.*float32"),
    ],
)
def test_styles_that_are_refused(coded: Path, frame: np.ndarray, style: Any, words: str) -> None:
    with opened(coded) as stylizer:
        with pytest.raises(stylesdk.StyleError, match=f"(?s)got:.*{words}"):
            stylizer.run(frame, style=style)
        assert stylizer.latency["total"].count == 0
        assert (stylizer.run(frame) == 40).all()


def test_an_encoder_that_gives_no_number(tmp_path: Path) -> None:
    encoder = picture_onnx("encoder", "paint", NAMES, float("nan"))
    path = write_with_companions(tmp_path, coded_onnx(), {"encoder": encoder})
    with pytest.raises(stylesdk.StyleError, match="NaN"):
        stylesdk.encode(colour(1, 2, 3), path)


@pytest.mark.parametrize("model", ["starry_night", "six"])
def test_models_without_companions_say_so(model: str, frame: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), frame)
    for suffix, words in (("auto", "has no chooser"), (str(tmp_path / "p.png"), "has no encoder")):
        with pytest.raises(stylesdk.StyleError, match=f"(?s){words}.*do this"):
            opened(f"{model}:{suffix}")
    with pytest.raises(stylesdk.StyleError, match="has no encoder"):
        stylesdk.encode(frame, model)
    with opened(model) as stylizer, pytest.raises(stylesdk.StyleError, match="has no chooser"):
        stylizer.run(frame, style="auto")


@pytest.mark.parametrize("kind", ["encoder", "chooser"])
def test_companion_files_that_are_missing_damaged_or_foreign(coded: Path, kind: str, frame: np.ndarray) -> None:
    style: Any = frame if kind == "encoder" else "auto"
    path = coded.with_name(f"paint.{kind}.onnx")
    whole = path.read_bytes()
    other = "chooser" if kind == "encoder" else "encoder"
    for data, words in (
        (None, f"no file .*paint.{kind}.onnx"),
        (whole[:-20], "truncated|SHA-256"),
        (
            bytes(255 - byte if at == len(whole) // 2 else byte for at, byte in enumerate(whole)),
            "SHA-256|truncated|manifest",
        ),
        (b"", "empty file"),
        (picture_onnx(kind, "paint", NAMES, 3.0), "of the model's own export"),
        (coded.with_name(f"paint.{other}.onnx").read_bytes(), f"the {other} of paint"),
        (coded.read_bytes(), f"a stylizer\nexpected: a file of kind {kind}"),
    ):
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
        with opened(coded) as stylizer:
            with pytest.raises(stylesdk.ModelFileError, match=words):
                stylizer.run(frame, style=style)
            assert (stylizer.run(frame) == 40).all(), "names do not need it"


def test_a_result_of_another_length(tmp_path: Path, frame: np.ndarray) -> None:
    model = painting_onnx(("low", "high"), 2)
    path = write_with_companions(tmp_path, model, {"chooser": picture_onnx("chooser", "paint", NAMES)})
    with opened(path) as stylizer, pytest.raises(stylesdk.ModelFileError, match=r"gives \(3,\)\nexpected: \(2,\)"):
        stylizer.run(frame, style="auto")


def test_a_companion_is_no_style(coded: Path) -> None:
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(stylesdk.ModelFileError, match=r"the encoder of paint(.|\n)*give paint\.onnx"):
            opened(coded.with_name("paint.encoder.onnx"), runtime)


def test_a_companion_keeps_no_memory_of_its_pictures(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[onnxruntime.SessionOptions] = []

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, data: bytes, options: onnxruntime.SessionOptions, **others: Any) -> None:
            asked.append(options)
            super().__init__(data, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    assert stylesdk.encode(colour(10, 20, 60), coded).tolist() == [10, 20, 60]
    assert [options.enable_cpu_mem_arena for options in asked] == [False]


def test_openvino_encodes_where_onnxruntime_is_missing(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    np.testing.assert_allclose(stylesdk.encode(colour(10, 20, 60), coded), (10, 20, 60), rtol=1e-6)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(stylesdk.MissingExtraError, match=r"stylesdk\[cpu\]"):
        stylesdk.encode(colour(10, 20, 60), coded)


def test_a_backend_of_ones_own_takes_codes(frame: np.ndarray) -> None:
    with Stylizer(backend=FakeBackend(styles=NAMES, codes=CODES)) as stylizer:
        assert (stylizer.run(frame) == 40).all()
        assert (stylizer.run(frame, style=np.array([7, 0, 1], np.float32)) == 8).all()
        with pytest.raises(stylesdk.StyleError, match="has no encoder"):
            stylizer.run(frame, style=frame)


def test_one_style_may_have_a_code(frame: np.ndarray) -> None:
    with Stylizer(backend=FakeBackend(styles=("only",), codes=((9.0,),))) as stylizer:
        assert (stylizer.run(frame) == 9).all()
        assert (stylizer.run(frame, style=np.array([30.0])) == 30).all()


@pytest.mark.parametrize("text", ["paint.onnx:missing.png", "paint.onnx:broken.jpg"])
def test_pictures_that_do_not_read(coded: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(coded.parent)
    Path("broken.jpg").write_bytes(b"no picture")
    with pytest.raises(stylesdk.StyleError, match="does not read as a picture"):
        opened(text)


@pytest.mark.parametrize("text", ["six:https://a.example/b.jpg", "C:/m/six.onnx:s3://a/b", "x.onnx:http://a/b.jpg?c:d"])
def test_pictures_of_the_web_are_to_be_downloaded_first(text: str) -> None:
    with pytest.raises(stylesdk.StyleError, match=r"got: (https|s3|http)://a(.|\n)*download it first"):
        opened(text)


def test_a_style_that_is_called_like_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(painting_onnx(("plain", "b.png"), 2))
    cv2.imwrite("b.png", colour(1, 2, 3))
    for text in ("m.onnx:b.png", f"{tmp_path / 'm.onnx'}:b.png"):
        with opened(text) as stylizer:
            assert stylizer.default_style == {"b.png": 1.0}
            assert (stylizer.run(colour(1, 2, 3)) == 120).all()
    Path("b.png").unlink()
    assert everywhere("m.onnx:b.png") == f"{tmp_path / 'm.onnx'}:b.png"


def test_colons_of_drives_and_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, model, picture in (
        ("six:a.jpg", "six", "a.jpg"),
        ("dir/six.onnx:art/a.PNG", "dir/six.onnx", "art/a.PNG"),
        ("six.onnx:/art/a.jpg", "six.onnx", "/art/a.jpg"),
        (r"C:\m\six.onnx:C:\art\a.jpg", r"C:\m\six.onnx", r"C:\art\a.jpg"),
        ("C:/m/six.onnx:D:/art/a.jpg", "C:/m/six.onnx", "D:/art/a.jpg"),
        (r"six:D:\art\a.webp", "six", r"D:\art\a.webp"),
    ):
        assert split_style(text) == (model, Path(picture)), text
    assert split_style("C:/a.jpg") == ("C:/a.jpg", None)
    assert split_style("six:auto") == ("six", "auto")
    assert split_style("six:auto=1,b=2") == ("six", {"auto": 1.0, "b": 2.0})
    if os.name != "nt":  # where a file's name may have a colon
        monkeypatch.chdir(tmp_path)
        Path("at 12:30.jpg").write_bytes(b"")
        assert split_style("dir/six.onnx:at 12:30.jpg") == ("dir/six.onnx", Path("at 12:30.jpg"))
        assert split_style("at 12:30.jpg") == ("at 12:30.jpg", None), "the file itself"


def test_graph_and_codes_that_disagree(tmp_path: Path) -> None:
    path = write_with_companions(tmp_path, coded_onnx(), {}, codes=((1.0, 2.0), (3.0, 4.0)))
    with pytest.raises(stylesdk.ModelFileError, match=r"shape \[3\](.|\n)*shape \[2\], a code's length"):
        opened(path)


def test_the_gate_asks_a_plan_for_every_code_and_for_their_mix() -> None:
    """The same model against itself passes; one that takes a code for another does not, and the style is named."""
    asked = []

    class Plan(FakeBackend):
        def infer(self, frame: np.ndarray, strength: float, style: np.ndarray | None = None) -> np.ndarray:
            assert style is not None
            asked.append((strength, style.tolist()))
            return super().infer(frame, strength, style if right else style * np.array([1, 0.8, 1], np.float32))

    data = coded_onnx()
    manifest = manifest_from_onnx(data, "it")
    plan = Plan((48, 64), NAMES, CODES)
    assert plan.manifest is not None
    plan.manifest = replace(plan.manifest, precision="fp16")
    right = True
    check_accuracy(plan, data, manifest, (), threading.Event())
    assert asked == [(1.0, list(CODES[0])), (1.0, list(CODES[1])), (0.5, [20.0, 50.0, 10.0])]
    right = False
    with pytest.raises(stylesdk.DeviceError, match="style high"):
        check_accuracy(plan, data, manifest, (), threading.Event())


def test_command_line(coded: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "style.png"), colour(10, 20, 60))
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, image in (("a", colour(20, 40, 60)), ("b", colour(100, 50, 50))):
        cv2.imwrite(str(photos / f"{name}.png"), image)
    asked = (("run", "style.png", (90, 90)), ("batch", "style.png", (90, 90)), ("run", "auto", (60, 100)))
    for command, style, levels in asked:
        words = (command, "photos", "-s", f"paint.onnx:{style}", "-o", f"out-{command}-{levels[0]}")
        line = [sys.executable, "-W", "error", "-m", "stylesdk.cli", *words]
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        found = [cv2.imread(str(path)) for path in sorted((tmp_path / words[-1]).rglob("*.png"))]
        assert [int(image[0, 0, 0]) for image in found] == list(levels)
