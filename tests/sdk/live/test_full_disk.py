"""Full disks and other outputs that cannot be written: real ones, through the pipeline and the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import ListSource, read_clip

from stylesdk.errors import SinkError
from stylesdk.live import open_sink
from stylesdk.live.salvage import salvage
from stylesdk.live.sources import SourceFrame
from stylesdk.live.video_sink import VideoSink

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and mounts here are POSIX")

# A run in a process of its own, whose files may not grow beyond a limit: the system refuses, as a full disk does.
_PIPELINE = """
import resource, sys, time
from fractions import Fraction
import numpy as np
sys.path.insert(0, sys.argv[1])
from clips import ListSource
from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.errors import SinkError
from stylesdk.live import open_sink, run_pipeline
from stylesdk.live.sources import SourceFrame

class Noise(ListSource):
    def __iter__(self):
        rng = np.random.default_rng(0)
        for index in range(self.frames):
            if self.live:
                time.sleep(0.002)  # so that some are taken
            image = rng.integers(0, 255, (128, 128, 3), np.uint8)
            yield SourceFrame(image, "", index, Fraction(1, 25), 1)

output, kind, limit = sys.argv[2], sys.argv[3], int(sys.argv[4])
source = Noise(4000, live=kind == "live", kind="image" if kind == "image" else "video")
sink = open_sink(output, source)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with Stylizer(backend=FakeBackend()) as stylizer:
        run_pipeline(source, stylizer, sink)
except SinkError as error:
    print(error)
    sys.exit(7)
"""


def limited(output: Path | str, kind: str, limit: int) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", _PIPELINE, str(Path(__file__).parent), str(output), kind, str(limit)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize(("suffix", "limit"), [(".mp4", 2_000), (".mp4", 400_000), (".mkv", 400_000)])
def test_video_of_a_file_leaves_nothing(tmp_path: Path, suffix: str, limit: int) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"old")
    done = limited(tmp_path / f"a{suffix}", "video", limit)
    assert done.returncode == 7, done.stderr
    assert "File too large" in done.stdout and "nothing was left under this name" in done.stdout
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(f"a{suffix}", b"old")]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_live_recording_keeps_what_fitted(tmp_path: Path, suffix: str) -> None:
    done = limited(tmp_path / f"a{suffix}", "live", 1_000_000)
    assert done.returncode == 7, done.stderr
    assert f"what was recorded until then is in {tmp_path / f'a{suffix}'}" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]
    assert 600_000 < (tmp_path / f"a{suffix}").stat().st_size <= 1_000_000
    with av.open(str(tmp_path / f"a{suffix}")) as file:  # whole to its last frame: nothing in it is damaged
        times = [frame.time for frame in file.decode(video=0)]
    assert len(times) > 50
    steps = 25 * np.diff(times)
    assert (np.rint(steps) >= 1).all() and np.abs(steps - np.rint(steps)).max() < 0.05


@pytest.mark.parametrize("keep", [False, True])
def test_whole_video_whose_name_is_refused_gets_another(tmp_path: Path, keep: bool) -> None:
    sink = VideoSink(tmp_path / "a.mp4", None, Fraction(25), keep=keep)
    (tmp_path / "a.mp4").mkdir()  # refused, as on Windows a file that a player has open
    for index in range(30):
        image = np.full((32, 32, 3), index, np.uint8)
        sink.write(image, SourceFrame(image, "", index, Fraction(1, 25), 1))
    (tmp_path / f"a-{os.getpid()}.mp4").write_bytes(b"another")
    other = tmp_path / f"a-{os.getpid()}-2.mp4"
    with pytest.raises(SinkError, match=f"the whole video is in {other}"):
        sink.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert len(read_clip(other).times) == 30


_KILLED = """
import os, signal, sys, time
from fractions import Fraction
from pathlib import Path
import numpy as np
from stylesdk.live.sources import SourceFrame
from stylesdk.live.video_sink import VideoSink

sink = VideoSink(Path(sys.argv[1]), None, Fraction(25), keep=True)
rng = np.random.default_rng(0)
for index in range(75):
    image = rng.integers(0, 255, (64, 64, 3), np.uint8)
    sink.write(image, SourceFrame(image, "", index, Fraction(1, 25), 1))
if len(sys.argv) > 2:
    print("alive", flush=True)
    time.sleep(100)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_recording_of_a_killed_run_is_rescued_by_the_next(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a [1]{suffix}"
    killed = subprocess.Popen([sys.executable, "-c", _KILLED, str(path)])
    assert killed.wait(120) == -9
    assert [p.name for p in tmp_path.iterdir()] == [f".a [1].{killed.pid}.part{suffix}"]
    (tmp_path / f".other.{killed.pid}.part{suffix}").write_bytes(b"not ours")
    (tmp_path / f".a [1].{os.getpid()}.part{suffix}").write_bytes(b"nothing to play, and our number in another life")
    VideoSink(path, None, Fraction(25), keep=True).close()
    rescued = tmp_path / f"a [1]-{killed.pid}{suffix}"
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".other.{killed.pid}.part{suffix}", rescued.name]
    assert f"is in {rescued}" in caplog.text
    with av.open(str(rescued)) as file:
        assert len(list(file.decode(video=0))) >= 25


def test_recording_of_a_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    line = [sys.executable, "-c", _KILLED, str(tmp_path / "a.mp4"), "live on"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "alive\n"
            before = [p.name for p in tmp_path.iterdir()]
            VideoSink(tmp_path / "a.mp4", None, Fraction(25), keep=True).close()
            assert [p.name for p in tmp_path.iterdir()] == before == [f".a.{other.pid}.part.mp4"]
        finally:
            other.kill()


def test_live_recording_of_which_nothing_fitted(tmp_path: Path) -> None:
    done = limited(tmp_path / "a.mp4", "live", 2_000)
    assert (done.returncode, list(tmp_path.iterdir())) == (7, [])
    assert "nothing was left under this name" in done.stdout


def test_folder_keeps_whole_frames(tmp_path: Path) -> None:
    done = limited(tmp_path / "frames", "video", 20_000)  # a noisy frame has 49 kB
    assert done.returncode == 7, done.stderr
    assert "File too large" in done.stdout and "check the free space" in done.stdout
    assert list((tmp_path / "frames").iterdir()) == []


def test_image_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    done = limited(tmp_path / "a.png", "image", 20_000)
    assert done.returncode == 7, done.stderr
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.png", b"old")]


def command(*words: str | Path, limit: int | None = None, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = "import sys, resource; from stylesdk.cli import main\n"
    if limit is not None:
        script += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    line = [sys.executable, "-c", script + "main()", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, timeout=200, check=False)


@pytest.mark.parametrize("output", ["out.mp4", "out.png", "frames/"])
def test_the_command_line_ends_with_one_and_a_message(tmp_path: Path, output: str) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / "in"
    source.mkdir()
    noise = rng.integers(0, 255, (256, 256, 3), np.uint8)
    cv2.imwrite(str(source / "a.png"), noise)
    clip = VideoSink(source / "a.mp4", None, Fraction(25))
    for index in range(10):
        clip.write(np.roll(noise, 31 * index, 0), SourceFrame(noise, "", index, Fraction(1, 25), 1))
    clip.close()
    words = ("run", source / ("a.png" if output == "out.png" else "a.mp4"), "-o", output, "--strength", "0")
    done = command(*words, limit=30_000, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "error: got:" in done.stderr and "do this:" in done.stderr and "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.parent != source] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    line = [mount or "mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    if sys.platform != "linux" or mount is None or subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("only the superuser of a Linux machine mounts file systems")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, leave: int) -> None:
    with (folder / "other").open("wb") as file:
        file.write(bytes(shutil.disk_usage(folder).free - leave))


def test_disk_that_is_full_before_work_starts(small_disk: Path) -> None:
    fill(small_disk, 1_000_000)
    done = command("run", "test:64x48:5", "-o", "a.mp4", cwd=small_disk)
    assert done.returncode == 1
    assert "1.0 MB of free space" in done.stderr and "expected: at least 17 MB" in done.stderr
    assert [p.name for p in small_disk.iterdir()] == ["other"]


def test_disk_that_fills_up_in_mid_run(small_disk: Path) -> None:
    rng = np.random.default_rng(0)
    sinks = [
        VideoSink(small_disk / f"{name}.mp4", None, Fraction(25), keep=name == "live") for name in ("file", "live")
    ]
    fill(small_disk, 3_000_000)
    for sink in sinks:
        with pytest.raises(SinkError, match="No space left on device"):
            for index in range(1000):
                image = rng.integers(0, 255, (128, 128, 3), np.uint8)
                sink.write(image, SourceFrame(image, "", index, Fraction(1, 25), 1))
        sink.abort()
    assert sorted(p.name for p in small_disk.iterdir()) == ["live.mp4", "other"]
    with av.open(str(small_disk / "live.mp4")) as file:
        assert len(list(file.decode(video=0))) > 100


@pytest.mark.parametrize(
    ("output", "kind"), [("a.mp4", "video"), ("a.png", "image"), (".", "images")], ids=["video", "image", "folder"]
)
def test_too_little_room_is_known_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, kind: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 5_000_000))
    with pytest.raises(SinkError, match=r"(?s)5.0 MB of free space.*free some space"):
        open_sink(str(tmp_path / output), ListSource(1, kind=kind))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_salvage_of_what_is_no_video(tmp_path: Path) -> None:
    for name, content in (("a.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(200)), ("a.mkv", b""), ("b.mp4", b"12345")):
        (tmp_path / name).write_bytes(content)
        assert not salvage(tmp_path / name)
    assert not salvage(tmp_path / "not there.mp4")


def test_salvage_cuts_nothing_off_a_whole_file(tmp_path: Path) -> None:
    for keep in (False, True):
        path = tmp_path / f"{keep}.mp4"
        sink = VideoSink(path, None, Fraction(25), keep=keep)
        for index in range(60):
            image = np.full((32, 32, 3), index, np.uint8)
            sink.write(image, SourceFrame(image, "", index, Fraction(1, 25), 1))
        sink.close()
        before = path.read_bytes()
        assert salvage(path)
        assert path.read_bytes() == before
