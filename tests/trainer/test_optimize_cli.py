"""`stylesdk optimize`, as a user types it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from styletrainer.errors import TrainError
from styletrainer.optimize import cli as optimize_cli
from styletrainer.optimize.cli import app
from styletrainer.optimize.gatys import Painting


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


@pytest.mark.parametrize("words", [["-o", "file/out.png"], ["-o", "file.png", "--every", "1"]])
def test_folder_that_is_a_file(inputs: list[str], tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file-steps").write_text("")
    with pytest.raises(TrainError, match="a folder that can be written"):
        optimize(*inputs, *[tmp_path / word if word.startswith("file") else word for word in words])


def test_folder_that_cannot_be_written_is_told_before_the_search(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", read_only)  # root, as in a container, may write everywhere
    monkeypatch.setattr(optimize_cli, "paint", None)
    with pytest.raises(TrainError, match=r"Permission denied.*; expected: a folder that can be written"):
        optimize(*inputs)


@pytest.mark.parametrize("option", ["photo", "artwork", "--mask", "--artwork-mask"])
def test_an_input_is_not_written_over(inputs: list[str], tmp_path: Path, option: str) -> None:
    photo, artwork, *rest = inputs
    output = tmp_path / "out.png"
    size = (300, 260) if option in ("artwork", "--artwork-mask") else (160, 120)
    before = Path(mask_of(output, *size)).read_bytes()
    words = [output if option == "photo" else photo, output if option == "artwork" else artwork, *rest]
    with pytest.raises(TrainError, match=r"out.png, which writes over it.*\n.*another name"):
        optimize(*words, *([option, output] if option.startswith("--") else []))
    assert output.read_bytes() == before and not list(tmp_path.glob(".*.tmp"))


def test_a_picture_on_the_way_is_not_written_over_while_it_is_the_photo(inputs: list[str], tmp_path: Path) -> None:
    (tmp_path / "out-steps").mkdir()
    photo = mask_of(tmp_path / "out-steps" / "00001.png", 160, 120)
    with pytest.raises(TrainError, match="which writes over it"):
        optimize(photo, *inputs[1:], "--every", "1")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()])
def test_too_little_memory_for_a_late_scale_keeps_the_picture_until_then(tmp_path: Path, error: Exception) -> None:
    def paintings(last: bool) -> Iterator[Painting]:
        if last:
            yield Painting(step=10, steps=20, scale=0, loss=1.0, terms={}, picture=torch.full((3, 4, 5), 0.2))
        raise error

    output = tmp_path / "out.png"
    with pytest.raises(TrainError, match=r"memory(?s:.)*smaller --size.* nothing was written"):
        optimize_cli._run(paintings(last=False), output, None, 1)
    with pytest.raises(TrainError, match=r"smaller --size.*out.png is the best until step 10 of 20"):
        optimize_cli._run(paintings(last=True), output, None, 1)
    assert (cv2.imread(str(output)) == 51).all()


def test_what_no_setting_mends_is_not_called_a_lack_of_memory(tmp_path: Path) -> None:
    def paintings() -> Iterator[Painting]:
        yield Painting(step=10, steps=20, scale=0, loss=1.0, terms={}, picture=torch.full((3, 4, 5), 0.2))
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        optimize_cli._run(paintings(), tmp_path / "out.png", None, 1)
    assert (tmp_path / "out.png").is_file()


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
