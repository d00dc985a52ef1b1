"""Of several styles each is held to the tolerance by itself: one that is rounded badly is refused by name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import styleexport.export as export
import styleexport.int8_calibration as calibration
from styleexport.errors import ExportError
from styleexport.export import fp16_model, int8_model, verification_samples
from styleexport.verify import TOLERANCES, Sample, compare, run_frames, verify_each_style
from stylesdk.live.scene import render_frame
from tiny_models import painting_onnx

STYLES = ("a", "b", "c")
GREY = np.full((16, 16, 3), 100, np.uint8)


def model(brighter: float = 0) -> bytes:
    """Three styles in fp32, each an even grey; style b comes out ``brighter`` by so many steps of 255."""
    return painting_onnx(STYLES, len(STYLES), (40, 120 + brighter, 200))


@pytest.fixture
def three(tmp_path: Path) -> Path:
    path = tmp_path / "three.onnx"
    path.write_bytes(model())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(8):
        cv2.imwrite(str(folder / f"{index}.png"), render_frame(12 * index, 100, (96, 128)))
    return folder


@pytest.mark.parametrize("styles", [2, 6])
@pytest.mark.parametrize("with_photos", [False, True])
def test_every_style_gets_two_pictures_at_full_strength(photos: Path, styles: int, with_photos: bool) -> None:
    samples = verification_samples(photos if with_photos else None, styles)
    full = [sample for sample in samples if sample.strength == 1]
    for weights in np.eye(styles):
        frames = [s.frame for s in full if np.array_equal(s.style, weights)]
        smallest = np.min([frame.shape for frame in frames], axis=0)
        left, right = (frame[: smallest[0], : smallest[1]] for frame in frames)
        assert not np.array_equal(left, right), "two different pictures"
    assert sum(np.allclose(s.style, 1 / styles) for s in full) == 1
    assert {s.strength for s in samples} == {0.5, 1.0}
    assert max(s.frame.size for s in samples) <= 384 * 512 * 3


def test_one_style_is_checked_on_six_frames_together_and_on_two_of_half_strength() -> None:
    samples = verification_samples(None, 1)
    assert [s.strength for s in samples] == [0.5, 1.0, 1.0, 1.0] * 2 and {s.style for s in samples} == {None}
    assert [s.frame.shape[:2] for s in samples[:3]] == [(384, 512), (240, 320), (241, 319)]
    wanted = [GREY] * 8
    found = [GREY + np.uint8(3 if index == 1 else 0) for index in range(8)]  # 3 of 255 in one frame: 0.4 on average
    assert verify_each_style(samples, ("a",), wanted, found, "int8", "it") == compare(wanted, found)
    # Over all frames together it would pass.
    found = [GREY + np.uint8(0 if sample.strength < 1 else 2.4 + index % 2) for index, sample in enumerate(samples)]
    assert compare(wanted, found).mean <= TOLERANCES["int8"].mean
    with pytest.raises(ExportError, match=r"it differs by up to 3, 2\.\d+ on average, of 255, over 6 frames"):
        verify_each_style(samples, ("a",), wanted, found, "int8", "it")


def test_a_badly_rounded_style_is_refused_in_int8(
    three: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "int8_from_onnx", lambda *_: model(brighter=5))
    with pytest.raises(ExportError, match=r"int8 of .*three\.onnx, style b differs(.|\n)*over 2 frames"):
        int8_model(three, tmp_path / "out", photos)
    assert not (tmp_path / "out").exists()


def test_a_badly_rounded_style_is_refused_in_fp16(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "fp16_from_onnx", lambda *_: model(brighter=1))
    with pytest.raises(ExportError, match="fp16 ONNX against fp32 ONNX, style b differs"):
        fp16_model(three, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_what_is_refused_passed_over_all_frames_together(three: Path) -> None:
    """So the two tests above hold the gate to what they say."""
    samples = verification_samples(None, len(STYLES))
    wanted = run_frames(three.read_bytes(), samples)
    for brighter, precision in ((5, "int8"), (1, "fp16")):
        found = compare(wanted, run_frames(model(brighter), samples))
        assert found.mean <= TOLERANCES[precision].mean and found.max <= TOLERANCES[precision].max


@pytest.mark.parametrize(
    ("strength", "name"), [(1.0, "a blend of styles differs"), (0.5, "a blend of styles at strength 0.5 differs")]
)
def test_blends_are_judged_by_themselves(strength: float, name: str) -> None:
    blend = np.full(3, 1 / 3, np.float32)
    samples = [Sample(GREY, 1.0, style) for style in (*np.eye(3, dtype=np.float32), blend)]
    samples[-1] = Sample(GREY, strength, blend)
    with pytest.raises(ExportError, match=name):
        verify_each_style(samples, STYLES, [GREY] * 4, [GREY] * 3 + [GREY + np.uint8(3)], "int8", "it")
