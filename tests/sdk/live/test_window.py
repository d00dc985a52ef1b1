"""The window: its keys, its text, what it saves; on a stand-in for OpenCV's windows, and on a real screen."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import ListSource, Screen, read_clip
from x_server import XServer, running_x_server, wait_until

import stylesdk.live.window
from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend
from stylesdk.errors import SinkError
from stylesdk.live import Look, open_sink, run_pipeline
from stylesdk.live.sources import Kind, SourceFrame
from stylesdk.live.stamp import read_stamp
from stylesdk.live.window import WindowSink, _key_name

NAMES = ("invert", "dark", "light")  # paint 255 - frame, 50, 100
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def three() -> Stylizer:
    return Stylizer(backend=FakeBackend(styles=NAMES))


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What stood on the HUD, frame by frame."""
    found: list[list[str]] = []
    draw_hud = stylesdk.live.window.draw_hud

    def noting(image: np.ndarray, lines: list[str]) -> np.ndarray:
        found.append(lines)
        assert draw_hud(image, lines).shape == image.shape
        return image.copy()

    monkeypatch.setattr(stylesdk.live.window, "draw_hud", noting)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def show(screen: Screen, stylizer: Stylizer, keys: dict[int, str], count: int = 30) -> None:
    """Run a clip, and press a key after so many shown frames."""
    screen.key = lambda: ord(keys.pop(len(screen.shown), "\xff"))
    source, look = ListSource(count), Look(style=stylizer.default_style, styles=stylizer.styles)
    run_pipeline(source, stylizer, open_sink("window", source, look), look=look)


def said(texts: list[list[str]], pattern: str) -> list[str]:
    return [line for lines in texts for line in lines if re.search(pattern, line)]


def test_keys_and_text(monkeypatch: pytest.MonkeyPatch, three: Stylizer, texts: list[list[str]]) -> None:
    screen = Screen(monkeypatch)
    show(screen, three, {2: "3", 4: "C", 6: "m", 8: "-", 22: "q"})
    assert texts[0][:2] == ["48x32", "invert  strength 100%"]
    keys = [
        "1-3 style  , . blend  + - strength  c colours  m [ ] smoothing",
        "s snapshot  r record  f full screen  h hide  q quit",
    ]
    assert texts[0][-2:] == keys
    assert re.fullmatch(r"\d+\.\d fps  48x32", texts[-1][0])
    assert texts[-1][1] == "light  strength 90%  photo's colours  smoothing 50%"
    assert said(texts, r"^age \d+ ms \(p99 \d+\)  style \d+\.\d ms \(p99 \d+\.\d\)$")
    assert said(texts, r"^dropped 0 before the style, 0 after$")
    assert said(texts, r"^fake, limited by the display$"), "a clip that waits for its own time"
    assert (screen.shown[1] == 254).all() and len(screen.shown) == 22


@pytest.mark.parametrize("kind", ["video", "image"])
def test_without_a_look_and_of_a_still_there_are_no_keys(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, texts: list[list[str]], here: Path
) -> None:
    screen = Screen(monkeypatch)
    screen.key = lambda: ord("s")
    sink = open_sink("window", ListSource(1, kind=kind), Look(styles=NAMES) if kind == "image" else None)
    image = np.zeros((32, 48, 3), np.uint8)
    sink.write(image, SourceFrame(image, "", 0))
    assert texts == [["48x32  q quits"]] and not list(here.iterdir())


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-1, ""),
        (ord("q"), "q"),
        (ord("S"), "s"),
        (0x100000 | ord("r"), "r"),  # GTK with Num Lock
        (27, "\x1b"),
        (0xFF52, "up"),  # its low byte is R
        (0xFF54, "down"),
        (0xFF51, ""),  # left: its low byte is Q
        (2490368, "up"),
        (2621440, "down"),
        (63232, "up"),
        (63233, "down"),
        (0xFFAB, "+"),
        (0xFFAD, "-"),
        (0xFFE1, ""),  # shift alone
    ],
)
def test_key_codes(code: int, name: str) -> None:
    assert _key_name(code) == name


def test_h_hides_all_but_notices(
    monkeypatch: pytest.MonkeyPatch, three: Stylizer, texts: list[list[str]], here: Path
) -> None:
    show(Screen(monkeypatch), three, {3: "h", 5: "s", 20: "h", 22: "q"})
    assert texts[3] == texts[4] == [] and len(texts[-1]) > 3
    hidden = [line for lines in texts[3:20] for line in lines]
    assert hidden and all(line.startswith("saved stylesdk-") for line in hidden)


def test_full_screen_and_back(monkeypatch: pytest.MonkeyPatch, three: Stylizer) -> None:
    modes: list[tuple[object, ...]] = []
    monkeypatch.setattr(cv2, "setWindowProperty", lambda *words: modes.append(words[1:]))
    show(Screen(monkeypatch), three, {3: "f", 6: "f", 8: "q"})
    full = cv2.WND_PROP_FULLSCREEN
    assert modes == [(full, cv2.WINDOW_FULLSCREEN), (full, cv2.WINDOW_NORMAL)]


def test_installation_begins_on_the_full_screen_without_a_hud(
    monkeypatch: pytest.MonkeyPatch, texts: list[list[str]]
) -> None:
    modes: list[tuple[object, ...]] = []
    monkeypatch.setattr(cv2, "setWindowProperty", lambda *words: modes.append(words[1:]))
    screen, source = Screen(monkeypatch), ListSource(2, live=True)
    sink = open_sink("fullscreen", source, Look())
    for frame in source:
        sink.write(frame.image, frame)
    sink.close()
    assert modes == [(cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)]
    assert len(screen.shown) == 2 and texts == [[], []]


def test_snapshot_is_what_was_shown_without_the_hud(
    monkeypatch: pytest.MonkeyPatch, three: Stylizer, here: Path
) -> None:
    screen = Screen(monkeypatch)
    show(screen, three, {3: "s", 4: "s", 6: "q"})
    files = sorted(here.glob("stylesdk-*.png"))
    assert len(files) == 2, "two in one second have two names"
    pictures = [cv2.imread(str(path)) for path in files]
    assert sorted(int(p[0, 0, 0]) for p in pictures) == [252, 253] and all((p == p[0, 0, 0]).all() for p in pictures)


def test_recording_is_a_playable_file(
    monkeypatch: pytest.MonkeyPatch, three: Stylizer, texts: list[list[str]], here: Path
) -> None:
    show(Screen(monkeypatch), three, {5: "r", 17: "r"}, count=40)
    (path,) = here.iterdir()
    clip = read_clip(path)
    # Eight wait for the encoder while it opens; on a slow machine the first ones are left out.
    assert 8 <= len(clip.times) <= 12 and clip.times[0] == 0 and clip.size == (32, 48)
    steps = 25 * np.diff(clip.times)
    assert steps == pytest.approx(np.rint(steps), abs=0.03) and (np.rint(steps) >= 1).all()
    assert said(texts, "^recording 0:00$")
    assert said(texts, f"^saved {path.name}$")


def test_recording_is_finished_when_the_window_closes_and_on_an_error(
    monkeypatch: pytest.MonkeyPatch, three: Stylizer, here: Path
) -> None:
    show(Screen(monkeypatch), three, {3: "r", 10: "q"})
    (path,) = here.iterdir()
    assert len(read_clip(path).times) >= 6
    path.unlink()

    screen, source, look, keys = Screen(monkeypatch), ListSource(30), Look(), {3: "r"}
    screen.key = lambda: ord(keys.pop(len(screen.shown), "\xff"))

    def spoil(counts: object) -> None:
        look.strength = 7.0 if len(screen.shown) == 15 else 1.0

    with pytest.raises(ValueError, match="strength"):
        run_pipeline(source, three, open_sink("window", source, look), look=look, on_frame=spoil)
    (path,) = here.iterdir()
    assert len(read_clip(path).times) >= 6


@pytest.mark.parametrize("at", ["opening", "writing", "finishing"])
def test_recording_that_fails_says_so_and_the_show_goes_on(
    monkeypatch: pytest.MonkeyPatch,
    three: Stylizer,
    texts: list[list[str]],
    here: Path,
    caplog: pytest.LogCaptureFixture,
    at: str,
) -> None:
    def full(*words: object, **options: object) -> None:
        raise SinkError("no space left on device")

    if at == "opening":
        monkeypatch.setattr("stylesdk.live.video_sink.check_writable", full)
    else:
        monkeypatch.setattr(f"stylesdk.live.video_sink.VideoSink.{'write' if at == 'writing' else 'close'}", full)
    screen = Screen(monkeypatch)
    with caplog.at_level(logging.WARNING):
        show(screen, three, {5: "r", 12: "r" if at == "finishing" else "\xff"}, count=30)
    assert len(screen.shown) == 30
    assert said(texts, "^recording failed: no space left on device$")
    assert "recording failed" in caplog.text and not list(here.iterdir())


def test_snapshot_that_fails_says_so(
    monkeypatch: pytest.MonkeyPatch, three: Stylizer, texts: list[list[str]], here: Path
) -> None:
    def full(*words: object) -> None:
        raise SinkError("no space left on device")

    monkeypatch.setattr("stylesdk.live.sinks.write_image", full)
    screen = Screen(monkeypatch)
    show(screen, three, {5: "s"})
    assert len(screen.shown) == 30 and said(texts, "^snapshot failed: no space left on device$")


def test_encoder_that_falls_behind_does_not_hold_the_show(
    monkeypatch: pytest.MonkeyPatch, three: Stylizer, here: Path
) -> None:
    from stylesdk.live.video_sink import VideoSink

    write, may_write, seen = VideoSink.write, threading.Event(), []

    def slow(self: VideoSink, image: np.ndarray, frame: SourceFrame) -> None:
        may_write.wait(60)
        seen.append(frame.captured - 100)
        write(self, image, frame)

    monkeypatch.setattr(VideoSink, "write", slow)
    screen = Screen(monkeypatch)
    keys = {2: "r"}
    screen.key = lambda: ord(keys.pop(len(screen.shown), "\xff"))
    sink = WindowSink(ListSource(1, live=True), Look())
    image = np.zeros((32, 48, 3), np.uint8)
    for index in range(40):
        sink.write(image, SourceFrame(image, "", index, captured=100 + index))
    may_write.set()
    sink.close()
    assert len(screen.shown) == 40
    # The first one was in the encoder's hands, the last eight were kept, with their own times.
    assert seen[-8:] == list(range(32, 40)) and len(seen) <= 10
    (path,) = here.iterdir()
    assert read_clip(path).times == pytest.approx([moment - seen[0] for moment in seen])


def test_disk_that_hangs_does_not_hold_the_show(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    """Neither while a recording opens nor under a snapshot; what waits is bounded."""
    from stylesdk.live import sinks

    works, write = threading.Event(), sinks.write_image
    monkeypatch.setattr("stylesdk.live.sinks.write_image", lambda *words: (works.wait(60), write(*words)))
    monkeypatch.setattr("stylesdk.live.video_sink.check_room", lambda folder: works.wait(60))
    screen = Screen(monkeypatch)
    screen.key = lambda: ord("r" if len(screen.shown) == 1 else "s" if len(screen.shown) < 10 else "\xff")
    sink = WindowSink(ListSource(1, live=True), Look())
    image = np.zeros((32, 48, 3), np.uint8)
    for index in range(20):
        sink.write(image, SourceFrame(image, "", index, captured=index / 25))
    assert len(screen.shown) == 20 and not list(here.iterdir())
    works.set()
    sink.close()
    assert len(saved(here, ".png")) == 4 and len(read_clip(saved(here, ".mp4")[0]).times) == 8


@pytest.mark.parametrize("closed", [False, True])
def test_quits_while_no_frame_comes(monkeypatch: pytest.MonkeyPatch, three: Stylizer, closed: bool) -> None:
    screen, source = Screen(monkeypatch), ListSource(5, live=True)
    over = threading.Event()
    source.before = lambda index: over.wait(30) if index == 1 else None
    sink = WindowSink(source, Look())
    idle = sink.idle

    def idle_until_now() -> None:
        over.set()  # the source is silent until its user has gone
        screen.open = not closed
        screen.key = lambda: -1 if closed else ord("q")
        idle()

    monkeypatch.setattr(sink, "idle", idle_until_now)
    run_pipeline(source, three, sink)
    assert len(screen.shown) == 1 and over.is_set()


# On a real screen


@contextmanager
def command(server: XServer, folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "stylesdk.cli", "run", *words, "-o", "window", "--runtime", "onnxruntime"]
    with subprocess.Popen(line, cwd=folder, env=server.env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def screen_without_monitor() -> Iterator[XServer]:
    with running_x_server() as server:
        yield server


def saved(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"stylesdk-*{suffix}"))


def test_real_window_from_its_first_frame_to_q(screen_without_monitor: XServer, tmp_path: Path) -> None:
    server = screen_without_monitor
    with command(server, tmp_path, "test:640x480@20", "-s", "starry_night.nano", "--strength", "0.1") as process:
        server.window("stylesdk: test")
        # Down: nothing of the style is left; h: nothing is drawn over the stamp.
        server.press("Down", "h")
        wait_until(lambda: read_stamp(server.picture()[:480, :640]), "a frame on the screen")
        first = read_stamp(server.picture()[:480, :640])
        wait_until(lambda: read_stamp(server.picture()[:480, :640]) != first, "another frame")
        server.press("s", "r")
        wait_until(lambda: saved(tmp_path, ".png"), "a snapshot")
        wait_until(lambda: list(tmp_path.glob(".stylesdk-*.part.mp4")), "a recording")
        server.press("f", "f", "plus", "m", "c", "1")
        server.press("r")
        wait_until(lambda: saved(tmp_path, ".mp4"), "a finished recording")
        server.press("q")
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "-> window" in output and "limited by" in output
    stamp = read_stamp(cv2.imread(str(saved(tmp_path, ".png")[0])))
    assert stamp is not None and first is not None and stamp.index > first.index
    clip = read_clip(saved(tmp_path, ".mp4")[0])
    assert clip.times[0] == 0 and len(clip.times) > 3 and clip.size == (480, 640)
    assert not list(tmp_path.glob(".*"))


def test_real_close_button_finishes_the_recording(screen_without_monitor: XServer, tmp_path: Path) -> None:
    server = screen_without_monitor
    with command(server, tmp_path, "test:320x240@20", "-s", "starry_night.nano") as process:
        window = server.window("stylesdk: test")
        server.press("r")
        wait_until(lambda: list(tmp_path.glob(".stylesdk-*.part.mp4")), "a recording")
        server.press("m")
        server.close_window(window)
        process.communicate(timeout=60)
    assert process.returncode == 0
    (path,) = tmp_path.iterdir()
    assert len(read_clip(path).times) >= 1


def test_pattern_in_a_window_ends_by_itself(screen_without_monitor: XServer, tmp_path: Path) -> None:
    with command(screen_without_monitor, tmp_path, "test:64x48:5", "-s", "starry_night.nano") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "-> window" in output
