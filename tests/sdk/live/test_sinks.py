"""Outputs: names, defaults, refusals, and nothing half-written."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import ListSource, Screen, read_clip

from stylesdk import Stylizer
from stylesdk.errors import SinkError
from stylesdk.live import StopRequested, open_sink, open_source, run_pipeline
from stylesdk.live.sources import Kind, SourceFrame
from stylesdk.live.window import WindowSink


def photo(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.full((20, 30, 3), 50, np.uint8))
    return path


def run(source_text: str, output: str | None, stylizer: Stylizer) -> str:
    source = open_source(source_text)
    sink = open_sink(output, source)
    run_pipeline(source, stylizer, sink)
    return sink.name


def test_default_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stylizer: Stylizer) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "pics" / "a.png")
    photo(tmp_path / "pics" / "b.jpg")
    assert run("pics/a.png", None, stylizer) == "a-styled.png"
    assert (cv2.imread("a-styled.png") == 205).all()
    run("pics", None, stylizer)
    run("pics/*.jpg", None, stylizer)
    assert sorted(p.name for p in (tmp_path / "pics-styled").iterdir()) == ["a.png", "b.png"]
    assert open_sink(None, ListSource(1)).name == "list-styled.mp4"
    assert sorted(p.name for p in tmp_path.iterdir() if "part" not in p.name) == [
        "a-styled.png",
        "pics",
        "pics-styled",
    ]


def test_video_to_folder_counts_frames(tmp_path: Path, stylizer: Stylizer) -> None:
    source = ListSource(3)
    run_pipeline(source, stylizer, open_sink(str(tmp_path / "new" / "frames"), source))
    images = sorted((tmp_path / "new" / "frames").iterdir())
    assert [p.name for p in images] == ["000001.png", "000002.png", "000003.png"]
    assert [int(cv2.imread(str(p))[0, 0, 0]) for p in images] == [255, 254, 253]


def test_live_frames_go_on_behind_those_that_are_there(tmp_path: Path) -> None:
    for name in ("000007.png", "notes.png", "00012.png"):
        (tmp_path / name).write_bytes(b"old")
    source = ListSource(2, live=True)
    sink = open_sink(str(tmp_path), source)
    for frame in source:
        sink.write(frame.image, frame)
    names = ["000007.png", "000008.png", "000009.png", "00012.png", "notes.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert (tmp_path / "000007.png").read_bytes() == b"old"


def test_same_stem_twice_loses_nothing(tmp_path: Path, stylizer: Stylizer) -> None:
    photo(tmp_path / "in" / "a.jpg")
    photo(tmp_path / "in" / "a.png")
    run(str(tmp_path / "in"), str(tmp_path / "out"), stylizer)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-2.png", "a.png"]


def test_images_to_video(tmp_path: Path, stylizer: Stylizer) -> None:
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.png")
    run(str(tmp_path / "in"), str(tmp_path / "out.mp4"), stylizer)
    clip = read_clip(tmp_path / "out.mp4")
    assert (len(clip.times), clip.duration) == (3, pytest.approx(0.12))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_image_formats(tmp_path: Path, stylizer: Stylizer, suffix: str) -> None:
    run(str(photo(tmp_path / "a.png")), str(tmp_path / f"b{suffix}"), stylizer)
    assert np.abs(cv2.imread(str(tmp_path / f"b{suffix}")).astype(int) - 205).max() <= 2


def test_input_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = open_source(str(photo(tmp_path / "a.png")))
    (tmp_path / "link.png").hardlink_to(tmp_path / "a.png")
    for output in ("a.png", "./a.png", "link.png", ".", str(tmp_path)):
        with pytest.raises(SinkError, match="which is an input"):
            open_sink(output, source)
    with pytest.raises(SinkError, match="which is an input"):
        open_sink(str(tmp_path), open_source(str(tmp_path)))
    video = ListSource(1)
    video.paths = (tmp_path / "v.mp4",)
    (tmp_path / "v.mp4").touch()
    with pytest.raises(SinkError, match="which is an input"):
        open_sink("v.mp4", video)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.gif", "suffix .gif"),
        ("a.png", "more than one frame"),
        ("no/a.mp4", "create it"),
        ("f/x/", "choose another"),
    ],
)
def test_outputs_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").touch()
    with pytest.raises(SinkError, match=message):
        open_sink(output, ListSource(2))
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("output", ["a.mp4", "a.png", "."])
def test_folder_without_rights_is_known_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    source = open_source(str(photo(tmp_path / "in" / "b.png")))
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # The superuser may write everywhere, so the system's answer is put in its mouth.
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SinkError, match="Permission denied"):
        open_sink(output, source)


def test_full_disk_leaves_the_old_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stylizer: Stylizer) -> None:
    source = open_source(str(photo(tmp_path / "a.png")))
    (tmp_path / "b.png").write_bytes(b"old")

    def half(self: Path, data: bytes) -> None:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(SinkError, match="No space left"):
        run_pipeline(source, stylizer, open_sink(str(tmp_path / "b.png"), source))
    assert (tmp_path / "b.png").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("display", [None, "", ":987"])
def test_window_without_screen(monkeypatch: pytest.MonkeyPatch, display: str | None) -> None:
    """Qt would end the process, also where only Wayland is."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    if display and sys.platform != "linux":
        pytest.skip("X11 is asked on Linux only")
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(SinkError, match=r"(?s)no screen.*write to a file"):
        open_sink("window", ListSource(1))


def test_window_of_an_opencv_without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_window(*args: object) -> None:
        raise cv2.error("not implemented")

    monkeypatch.setattr("stylesdk.live.window._no_screen", lambda: "")
    monkeypatch.setattr(cv2, "namedWindow", no_window)
    with pytest.raises(SinkError, match="write to a file"):
        open_sink("window", ListSource(1))


def test_window_of_a_clip_that_begins_late_shows_it_at_its_own_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camcorder's clock of an hour is not waited for."""
    screen, source = Screen(monkeypatch), ListSource(6)
    sink = open_sink("window", source)
    start = time.monotonic()
    for frame in source:
        sink.write(frame.image, replace(frame, pts=frame.pts + 25 * 3600))  # type: ignore[operator]
    assert 4 / 25 < time.monotonic() - start < 60
    sink.close()
    assert len(screen.shown) == 6


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["image", "video"])
def test_stop_ends_what_a_window_waits_for(monkeypatch: pytest.MonkeyPatch, stylizer: Stylizer, kind: Kind) -> None:
    """A still that stays, and a picture that is an hour after the one before."""

    class Gap(ListSource):
        def __iter__(self) -> Iterator[SourceFrame]:
            for frame in super().__iter__():
                yield replace(frame, pts=frame.pts * 90_000)  # type: ignore[operator]

    screen, source, stop = Screen(monkeypatch), Gap(1 if kind == "image" else 3, kind=kind), threading.Event()
    shown = threading.Timer(0.5, stop.set)
    shown.start()
    counts = run_pipeline(source, stylizer, open_sink("window", source), stop=stop)
    shown.join()
    assert 1 <= counts.delivered == len(screen.shown) <= 2 and not screen.open


@pytest.mark.parametrize("how", ["q", "Escape", "closed"])
def test_window_stops_the_run(monkeypatch: pytest.MonkeyPatch, stylizer: Stylizer, how: str) -> None:
    screen = Screen(monkeypatch)
    if how == "closed":
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *a: float(len(screen.shown) < 3))
    else:
        screen.key = lambda: {"q": ord("q"), "Escape": 27}[how] if len(screen.shown) == 3 else -1
    source = ListSource(50)
    counts = run_pipeline(source, stylizer, open_sink("window", source))
    assert len(screen.shown) == 3
    assert counts.delivered == 2
    assert source.closed == 1


def test_window_shows_a_file_at_its_own_speed_and_closes(monkeypatch: pytest.MonkeyPatch, stylizer: Stylizer) -> None:
    screen = Screen(monkeypatch)
    source = ListSource(6)
    start = time.monotonic()
    run_pipeline(source, stylizer, open_sink(None if source.live else "window", source))
    assert time.monotonic() - start >= 5 / 25 - 0.01
    assert (len(screen.shown), screen.open) == (6, False)


def test_window_keeps_a_still_until_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    sink = WindowSink(ListSource(1, kind="image"))
    image = np.zeros((40, 60, 3), np.uint8)
    sink.write(image, SourceFrame(image, "a"))
    pressed = iter([-1, -1, ord("x"), ord("q")])
    screen.key = lambda: next(pressed)
    sink.close()
    assert next(pressed, None) is None
    assert not screen.open


def test_minimised_window_of_macos_is_not_closed(monkeypatch: pytest.MonkeyPatch, stylizer: Stylizer) -> None:
    screen = Screen(monkeypatch)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *a: 0.0 if len(screen.shown) < 5 else -1.0)
    source = ListSource(10)
    run_pipeline(source, stylizer, open_sink("window", source))
    assert len(screen.shown) == 5


def test_stop_requested_is_no_error_of_ours() -> None:
    assert not issubclass(StopRequested, SinkError)
