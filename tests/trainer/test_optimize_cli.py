"""`stylesdk optimize`, as a user types it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from styletrainer.errors import TrainError
from styletrainer.optimize_cli import app


@pytest.fixture
def inputs(material: Path, tmp_path: Path) -> list[str]:
    """Photo of 160x120, an artwork, and the options that make it quick."""
    photo, artwork = str(material / "photos" / "0.png"), str(material / "artwork.png")
    quick = ["--size", "64", "--steps", "3", "--vgg", str(material / "vgg.safetensors"), "--device", "cpu"]
    return [photo, artwork, "-o", str(tmp_path / "out.png"), *quick]


def optimize(*words: str | Path) -> None:
    app(args=[str(word) for word in words], prog_name="stylesdk optimize", standalone_mode=False)


def mask_of(path: Path, width: int, height: int, value: int = 255) -> str:
    cv2.imwrite(str(path), np.full((height, width), value, np.uint8))
    return str(path)


def test_picture_and_pictures_on_the_way(inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optimize(*inputs, "--every", "1")
    picture, photo = cv2.imread(str(tmp_path / "out.png")), cv2.imread(inputs[0])
    assert picture.shape == (48, 64, 3)
    assert np.abs(cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA).astype(int) - picture).mean() > 3
    steps = sorted((tmp_path / "out-steps").iterdir())
    assert [path.name for path in steps] == ["00001.png", "00002.png", "00003.png"]
    assert (cv2.imread(str(steps[-1])) == picture).all()
    said = capsys.readouterr().out
    assert "content layer relu3_3" in said and "out.png: done, loss" in said


def test_every_option_changes_the_picture(inputs: list[str], material: Path, tmp_path: Path) -> None:
    half = np.zeros((120, 160), np.uint8)
    half[:60] = 255
    cv2.imwrite(str(tmp_path / "half.png"), half)
    changes: list[list[str]] = [
        [],
        ["--optimizer", "adam"],
        ["--start", "noise"],
        ["--start", "noise", "--seed", "7"],
        ["--style-weight", "50"],
        ["--content-weight", "20"],
        ["--tv-weight", "200"],
        ["--mask", str(tmp_path / "half.png")],
        ["--artwork-mask", mask_of(tmp_path / "part.png", 300, 260)],
        ["--keep-color"],
        ["--match-color"],
    ]
    part = cv2.imread(str(tmp_path / "part.png"), cv2.IMREAD_GRAYSCALE)
    part[:200] = 0
    cv2.imwrite(str(tmp_path / "part.png"), part)
    found = set()
    for change in changes:
        optimize(*inputs, *change)
        found.add((tmp_path / "out.png").read_bytes())
    assert len(found) == len(changes)


def test_weights_mix_artworks(inputs: list[str], material: Path, tmp_path: Path) -> None:
    photo, artwork, *rest = inputs
    found = []
    for weights in ("1,0", "0,1", "0.5,0.5"):
        optimize(photo, artwork, str(material / "photos" / "1.png"), *rest, "--weights", weights)
        found.append((tmp_path / "out.png").read_bytes())
    optimize(*inputs)
    assert len(set(found)) == 3
    assert (tmp_path / "out.png").read_bytes() == found[0], "an artwork of weight 0 is not there"


def test_everything_wrong_is_told_at_once_and_nothing_is_written(inputs: list[str], tmp_path: Path) -> None:
    photo, artwork, *rest = inputs
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "out.png").write_bytes(b"what was there")
    small, black = mask_of(tmp_path / "small.png", 10, 20), mask_of(tmp_path / "black.png", 160, 120, 0)
    words = [photo, artwork, str(tmp_path / "text.png"), str(tmp_path / "nowhere.jpg"), *rest]
    words += ["--weights", "1,x", "--mask", small, "--mask", black, "--size", "10"]
    with pytest.raises(TrainError) as error:
        optimize(*words)
    said = str(error.value)
    for part in (
        "7 problem(s)",
        "size: got 10, expected at least 64",
        "text.png, which does not read as a picture",
        "nowhere.jpg, where there is no file",
        "--weights: got 1,x, expected 3 numbers",
        "--mask: got 2, expected 3",
        "small.png of 10x20, expected 160x120, the size of",
        "black.png, black all over",
    ):
        assert part in said, part
    assert (tmp_path / "out.png").read_bytes() == b"what was there"
    assert not (tmp_path / "out-steps").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--weights", "-1"], "--weights: got -1"),
        (["--weights", "nan"], "--weights: got nan"),
        (["--weights", "0"], "--weights: got 0"),
        (["--artwork-mask", "PHOTO"], "of 160x120, expected 300x260"),
        (["--keep-color", "--match-color"], "expected: one of them"),
        (["--device", "abacus"], "device abacus"),
        (["--vgg", "nowhere.pth"], "no file at nowhere.pth"),
        (["-o", "out.txt"], "the name of a picture"),
    ],
)
def test_bad_input(inputs: list[str], tmp_path: Path, change: list[str], said: str) -> None:
    with pytest.raises(TrainError, match=said):
        optimize(*inputs, *[inputs[0] if word == "PHOTO" else word for word in change])
    assert not (tmp_path / "out.png").exists()


def test_folder_that_is_a_file(inputs: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="a folder that can be written"):
        optimize(*inputs, "-o", tmp_path / "file" / "out.png")


def test_interrupt_writes_what_there_is_and_exits_130(inputs: list[str], tmp_path: Path) -> None:
    line = [sys.executable, "-m", "stylesdk.cli", "optimize", *inputs, "--steps", "1000000", "--every", "1"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("out-steps/[0-9]*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert cv2.imread(str(tmp_path / "out.png")).shape == (48, 64, 3)
    assert not list(tmp_path.glob(".*.tmp"))
