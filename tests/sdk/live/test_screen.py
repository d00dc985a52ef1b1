"""The screen as a source, on an X server of its own with a known picture."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from installed import require
from stylesdk.errors import SourceError, SourceLostError
from stylesdk.live import open_source, watchdog
from stylesdk.live.sources import SourceFrame


def x_server() -> tuple[subprocess.Popen[bytes], str]:
    """An X server on a free display, that has answered."""
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(words, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        return server, f":{pipe.readline().strip()}"


def rectangle(path: Path) -> Path:
    """An X bitmap of the whole screen: set in a rectangle of 60x40 at 100,50."""
    bits = np.zeros((240, 320), np.uint8)
    bits[50:90, 100:160] = 1
    data = ",\n".join(f"0x{byte:02x}" for byte in np.packbits(bits, axis=1, bitorder="little").ravel())
    path.write_text(f"#define a_width 320\n#define a_height 240\nstatic char a_bits[] = {{\n{data}}};\n")
    return path


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    if sys.platform != "linux":
        pytest.skip("an X server of its own is for Linux")
    require("Xvfb", "xsetroot")
    server, display = x_server()
    try:
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        paint = ["xsetroot", "-bitmap", str(rectangle(tmp_path / "root.xbm")), "-fg", "#0a64c8", "-bg", "#ff8000"]
        subprocess.run(paint, check=True, timeout=60)
        yield server
    finally:
        server.kill()
        server.wait(30)


def test_screen_and_parts_of_it_arrive_in_bgr(screen: object) -> None:
    expected = np.full((240, 320, 3), (0, 128, 255), np.uint8)
    expected[50:90, 100:160] = (200, 100, 10)
    for text in ("screen", "screen:1", "screen:0"):
        source = open_source(text)
        assert source.description == f"{text}: 320x240 at 0,0, 30 frames/s"
        assert (source.kind, source.live, source.fps, source.frames) == ("screen", True, 30, None)
        np.testing.assert_array_equal(next(iter(source)).image, expected)
        source.close()
    part = open_source("screen:90,40,20x30", fps=10)
    assert (part.description, part.fps) == ("screen:90,40,20x30: 20x30 at 90,40, 10 frames/s", 10)
    np.testing.assert_array_equal(next(iter(part)).image, expected[40:70, 90:110])
    part.close()


def test_screen_keeps_its_pace(screen: object) -> None:
    source = open_source("screen", fps=20)
    frames = list(itertools.islice(source, 11))
    source.close()
    assert source.fps == Fraction(20)
    # Never faster; how much slower is up to the machine.
    assert frames[-1].captured - frames[0].captured > 0.9 * 10 / 20


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("screen:2", "screen:2, but the last screen is 1"),
        ("screen:x", "'screen:x'"),
        ("screen:1,2", "'screen:1,2'"),
        ("screen:0,0,0x9", "'screen:0,0,0x9'"),
        ("screen:300,200,100x100", "screen:300,200,100x100, which cannot be read"),
    ],
)
def test_no_such_screen(screen: object, text: str, got: str) -> None:
    with pytest.raises(SourceError, match=rf"(?s)got: {got}.*expected: "):
        open_source(text)


def test_no_desktop_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(
        SourceError, match=r"(?s)screen, which cannot be opened.*do this: Linux: .*DISPLAY; macOS: allow"
    ):
        open_source("screen")


def test_screen_that_goes_away_is_given_up(screen: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LATE", 0.5)
    source = open_source("screen", give_up=2.0)
    seen: list[SourceFrame] = []
    with pytest.raises(SourceLostError, match="screen, no frame for"):
        for frame in source:
            seen.append(frame)
            if screen.poll() is None:
                screen.kill()
                screen.wait(30)
    assert seen[0].signal and not seen[-1].signal
    source.close()
