"""A batch in one process: what comes out, what is skipped, and what is left after a death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from batches import IMAGES, MODEL, assert_same_trees, clip, job, photo, tree
from clips import read_clip

from stylesdk import ModelFileError, Stylizer
from stylesdk.batch import run_batch
from stylesdk.batch.places import Folder
from stylesdk.batch.worker import Result
from stylesdk.live import Look
from tiny_models import painting_onnx


def command(words: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "stylesdk.cli", "batch", *map(str, words)]


def batch(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(words), capture_output=True, text=True, cwd=cwd, timeout=200, check=False)


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(words), cwd=cwd)


def test_every_file_is_styled_as_run_does(many: Path, styled: Path) -> None:
    assert tree(styled) == tree(many)
    with Stylizer(MODEL, threads=1) as stylizer:
        for name in ("a/000.png", "b/c/003.png"):
            expected = stylizer.run(cv2.imread(str(many / name)))
            np.testing.assert_array_equal(cv2.imread(str(styled / name)), expected)
    for name, sound in (("a/silent.mp4", None), ("b/sound.mp4", "aac"), ("long.mkv", None)):
        before, after = read_clip(many / name), read_clip(styled / name)
        assert (after.times, after.size, after.sound) == (before.times, before.size, sound)
        assert after.duration == pytest.approx(before.duration, abs=0.001)


def test_options_reach_the_style(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "two.onnx").write_bytes(painting_onnx(("wave", "udnie"), 2))
    done = batch("in", "-o", "out", "-s", "two.onnx:udnie", "--strength", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (cv2.imread(str(tmp_path / "out/a.png")) == 120).all()
    settings = {"model": str(tmp_path / "two.onnx"), "look": Look(strength=0)}
    run_batch(*job(tmp_path / "in", tmp_path / "photo", **settings))
    np.testing.assert_array_equal(*(cv2.imread(str(tmp_path / f / "a.png")) for f in ("in", "photo")))


def test_exif_orientation(tmp_path: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = 255
    data = cv2.imencode(".jpg", image)[1].tobytes()
    # TIFF header, one entry: tag 0x0112 Orientation, SHORT, 1 value: 6, a quarter turn
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    run_batch(*job(tmp_path / "in", tmp_path / "out", look=Look(strength=0)))
    upright = cv2.imread(str(tmp_path / "out/a.jpg"))
    assert upright.shape == (80, 40, 3)
    assert upright[:30].mean() > 240 and upright[50:].mean() < 15


def test_what_is_there_is_skipped_and_overwrite_redoes(tmp_path: Path) -> None:
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.png")
    assert run_batch(*job(tmp_path / "in", tmp_path / "out")).done == 3
    whole = (tmp_path / "out/b.png").read_bytes()
    (tmp_path / "out/a.png").unlink()
    (tmp_path / "out/b.png").write_bytes(b"mine")
    told: list[tuple[Result, int]] = []
    summary = run_batch(*job(tmp_path / "in", tmp_path / "out"), on_result=lambda *given: told.append(given))
    assert (summary.done, summary.skipped, summary.failed) == (1, 2, {})
    assert told == [(Result("a.png"), 1)]
    assert (tmp_path / "out/b.png").read_bytes() == b"mine"
    assert run_batch(*job(tmp_path / "in", tmp_path / "out"), overwrite=True).done == 3
    assert (tmp_path / "out/b.png").read_bytes() == whole


def test_files_that_cannot_be_read_are_told_at_the_end(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "good.png")
    clip(tmp_path / "in" / "good.mp4")
    whole = clip(tmp_path / "in" / "cut.mp4").read_bytes()
    (tmp_path / "in/cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/[red]bad.jpg").write_bytes(b"no image")
    (tmp_path / "in/empty.mkv").touch()
    done = batch("in", "-o", "out", "-s", MODEL, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "2 styled, 0 there already, 3 failed" in done.stdout
    for name in ("[red]bad.jpg", "cut.mp4", "empty.mkv"):
        assert name in done.stdout
    assert "not a readable image" in done.stdout
    assert tree(tmp_path / "out") == {"good.png", "good.mp4"}
    (tmp_path / "in/[red]bad.jpg").unlink()
    photo(tmp_path / "in" / "[red]bad.jpg")
    assert "1 styled, 2 there already, 2 failed" in batch("in", "-o", "out", "-s", MODEL, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nowhere", "-o", "out"), 1, "no such file"),
        (("in", "-o", "in"), 1, "which is an input"),
        (("in", "-o", "out", "-s", "nowhere.onnx"), 1, "a model file"),
        (("in", "-o", "out", "-s", "nothing"), 1, "stylesdk styles"),
        (("in", "-o", "out", "--workers", "2"), 2, "needs --ray"),
        (("in",), 2, "--output"),
    ],
)
def test_mistakes_get_one_message(tmp_path: Path, words: tuple[str, ...], code: int, message: str) -> None:
    photo(tmp_path / "in" / "a.png")
    done = batch(*words, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.png"]


def test_a_model_that_does_not_open_loses_nothing(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "out" / "a.png", 7)
    before = (tmp_path / "out/a.png").read_bytes()
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError):
        run_batch(*job(tmp_path / "in", tmp_path / "out", model=str(tmp_path / "bad.onnx")), overwrite=True)
    assert (tmp_path / "out/a.png").read_bytes() == before


def test_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")

    def no_room(self: Folder, file: Path, name: str) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "put", no_room)
        summary = run_batch(*job(tmp_path / "in", tmp_path / "out"))
    assert summary.done == 0
    assert summary.failed == dict.fromkeys(("a.png", "b.png"), "OSError: [Errno 28] No space left on device")
    assert not list((tmp_path / "out").iterdir())
    assert run_batch(*job(tmp_path / "in", tmp_path / "out")).done == 2


def test_an_output_that_no_worker_shares_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker elsewhere writes to its own disk: here, one that is taken away."""
    photo(tmp_path / "in" / "a.png")
    monkeypatch.setattr(Folder, "put", lambda self, file, name: file.unlink())
    summary = run_batch(*job(tmp_path / "in", tmp_path / "out"))
    assert summary.done == 0
    assert "a bucket" in summary.failed["a.png"]


def test_a_run_that_is_killed_goes_on(many: Path, styled: Path, tmp_path: Path) -> None:
    """No half file under a final name, and the same command makes the rest."""
    words = [many, "-o", "out", "-s", MODEL, "--threads", "1"]
    with start(*words, cwd=tmp_path) as running:
        while len(list(tmp_path.glob("out/a/*.*"))) < 5:
            assert running.poll() is None
            time.sleep(0.001)
        running.kill()
    made = {path for path in tree(tmp_path / "out") if not path.startswith(".")}
    assert 5 <= len(made) < IMAGES + 3
    done = batch(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{IMAGES + 3 - len(made)} styled, {len(made)} there already, 0 failed" in done.stdout
    assert_same_trees(styled, tmp_path / "out")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_video_that_is_cut_short_is_none(tmp_path: Path, how: signal.Signals) -> None:
    """`run` keeps the part that is done; a batch would take it for the whole."""
    clip(tmp_path / "in" / "a.mp4", frames=1500)
    with start("in", "-o", "out", "-s", MODEL, "--threads", "1", cwd=tmp_path) as running:
        while not any(path.stat().st_size for path in tmp_path.glob("out/.stylesdk-parts/*/0/.*.mp4")):
            assert running.poll() is None
            time.sleep(0.001)
        running.send_signal(how)
        assert running.wait() == 130
    assert not list((tmp_path / "out").iterdir())


def test_only_what_is_ours_is_cleared(tmp_path: Path) -> None:
    """A run of other files into the same folder is left alone."""
    photo(tmp_path / "in" / "a.png")
    place = Folder(str(tmp_path / "out"))
    for name in ("a.png", "b.png"):
        (place.scratch(name) / "0").mkdir(parents=True)
        (place.scratch(name) / "0" / "styled.png").write_bytes(b"half")
    assert run_batch(*job(tmp_path / "in", tmp_path / "out")).done == 1
    assert not place.scratch("a.png").exists()
    assert place.scratch("b.png").exists()
