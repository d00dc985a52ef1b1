"""The command line, as a user types it."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stylesdk.cli import _explain, main, parse_size
from stylesdk.doctor import conflicts
from stylesdk.frames import recolored
from stylesdk.live import memory
from stylesdk.styles import styles as bundled
from tiny_models import painting_onnx


def stylesdk(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "stylesdk.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, timeout=200, check=False)


def test_demo_writes_a_clip_and_a_picture(tmp_path: Path) -> None:
    done = stylesdk("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "inference" in done.stdout and "p99" in done.stdout
    picture = cv2.imread(str(tmp_path / "stylesdk-demo/demo.png"))
    photo, styled = picture[:360], picture[360:]
    assert styled.shape == photo.shape == (360, 640, 3)
    assert np.abs(photo.astype(int) - styled).mean() > 10
    clip = cv2.VideoCapture(str(tmp_path / "stylesdk-demo/demo.mp4"))
    assert int(clip.get(cv2.CAP_PROP_FRAME_COUNT)) == 100


def test_run_on_an_image(tmp_path: Path, frame: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), frame)
    done = stylesdk("run", "photo.png", "-o", "out.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "out.png")).shape == frame.shape


def test_run_with_everything(tmp_path: Path, frame: np.ndarray) -> None:
    """A style of several, the photo's colours, and smoothing, which leaves stills alone."""
    cv2.imwrite(str(tmp_path / "photo.png"), frame)
    (tmp_path / "three.onnx").write_bytes(painting_onnx(("wave", "udnie", "scream"), 3))
    words = ("run", "photo.png", "-s", "three.onnx:udnie=1,wave=1", "-o")
    done = stylesdk(*words, "out.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (cv2.imread(str(tmp_path / "out.png")) == 80).all()
    done = stylesdk(*words, "kept.png", "--keep-color", "--smoothing", "0.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = recolored(np.full_like(frame, 80), frame)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "kept.png")), expected)


def test_run_smooths_video(tmp_path: Path) -> None:
    done = stylesdk("run", "test:64x48:5", "-o", "null", "--smoothing", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_run_test_pattern_to_null(tmp_path: Path) -> None:
    done = stylesdk("run", "test:5", "-o", "null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "frames/s" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "nowhere.png"), 1, "nowhere.png"),
        (("run", "test:1", "-s", "no_style", "-o", "null"), 1, "stylesdk styles"),
        (("run", "test:1", "-s", "starry_night:wave", "-o", "null"), 1, "one of starry_night"),
        (("run", "test:1", "-s", "starry_night:", "-o", "null"), 1, "NAME=WEIGHT"),
        (("run", "test:1", "-o", "out.xyz"), 1, "out.xyz"),
        (("run", "test:1", "--strength", "2"), 2, "strength"),
        (("webcam", "--smoothing", "2"), 2, "smoothing"),
        (("nonsense",), 2, "nonsense"),
        (("export", "n" * 300, "-o", "out"), 1, "File name too long"),
        (("bench", "--size", "big"), 2, "1280x720"),
        (("train", "a.jpg", "--photos", "none", "-o", "run"), 1, "no picture below"),
        (("export", "none", "-o", "out"), 1, "config.json"),
        (("export", "none", "-o", "out", "--format", "tflite"), 1, "onnx, engine or triton"),
        (("train", "a.jpg", "--photos", "p", "-o", "r", "--set", "colour=blue"), 1, "colour: unknown"),
    ],
)
def test_mistakes_get_one_message_and_no_traceback(
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stylesdk", *words])
    monkeypatch.setattr(memory, "keep_memory_flat", lambda: None)  # it is of the whole process, here of all tests
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == code, told.out + told.err
    assert message in re.sub(r"\s+", " ", told.err.replace("│", "")), told.err
    assert "Traceback" not in told.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_entered_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert _explain(PermissionError(errno.EACCES, "Permission denied", "locked/run")) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: got: Permission denied: locked/run\nexpected: ") and "do this: check" in told
    with pytest.raises(ConnectionResetError):  # nothing of the user's: its traceback helps to mend it
        _explain(ConnectionResetError(errno.ECONNRESET, "reset"))


def test_bench_writes_json(tmp_path: Path) -> None:
    done = stylesdk("bench", "--size", "160x120", "--frames", "10", "--json", "b.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    stages = report["models"]["starry_night"]["stages"]
    assert stages["total"]["count"] == 10
    assert stages["total"]["p50"] >= stages["inference"]["p50"] > 0
    assert report["machine"]["processor"]


def test_styles_measured_here(tmp_path: Path) -> None:
    done = stylesdk("styles", "--measure", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split("│") for line in done.stdout.splitlines() if ".onnx" not in line and "Apache" in line]
    times = [float(cell) for row in rows for cell in row if re.fullmatch(r" *\d+\.\d *", cell)]
    assert len(times) == len(rows) == len(bundled())
    assert min(times) > 0


def test_styles_and_doctor(tmp_path: Path) -> None:
    assert "starry_night" in stylesdk("styles", cwd=tmp_path).stdout
    done = stylesdk("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "onnxruntime" in done.stdout and "GPU" in done.stdout


def test_doctor_names_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylesdk.doctor.installed", lambda p: "1.0" if p.startswith("onnxruntime") else "")
    found = "\n".join(conflicts())
    assert "onnxruntime and onnxruntime-gpu" in found
    assert "pip uninstall -y" in found


def test_parse_size() -> None:
    assert parse_size("1280x720") == (720, 1280)


@pytest.mark.parametrize(
    "command",
    ["batch", "bench", "compare", "demo", "doctor", "export", "optimize", "run", "serve", "styles", "train", "webcam"],
)
def test_every_command_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stylesdk", command, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and "Usage" in capsys.readouterr().out
