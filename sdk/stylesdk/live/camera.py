"""Cameras: found by number, path or name, and asked for a size, a rate and the format that can carry them."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2

from stylesdk.errors import SourceError
from stylesdk.frames import Frame
from stylesdk.live.watchdog import WatchedSource

_log = logging.getLogger(__name__)
_GRAMMAR = re.compile(
    r"(?P<which>\d+|camera:[^@]+|/dev/(?:video|v4l/)[^@]+)"
    r"(?:@(?P<width>[1-9]\d*)x(?P<height>[1-9]\d*))?(?:@(?P<fps>[1-9]\d*(?:\.\d+)?))?",
    re.ASCII,
)
_SYSFS = Path("/sys/class/video4linux")
# Pixels a second that USB 2 carries raw; more than these it carries as JPEGs, or at 5 frames a second.
_RAW_PIXELS = 640 * 480 * 30
_AGAIN = 0.02  # seconds after a read that gave nothing, so that one that fails at once does not spin
_FAILED = 25  # such reads in a row that tell that a camera is gone


def is_camera(text: str) -> bool:
    """Whether ``text`` names a camera: ``0``, ``0@...``, ``/dev/video0``, ``/dev/v4l/...`` or ``camera:...``."""
    return bool(re.match(r"\d+(@[\dx@.]*)?$|camera:|/dev/(video|v4l/)", text, re.ASCII))


def open_camera(text: str, size: tuple[int, int] | None, fps: float | None, give_up: float) -> WatchedSource:
    """The camera that ``text`` names, watched: ``WHICH``, ``WHICH@WxH``, ``WHICH@FPS`` or ``WHICH@WxH@FPS``.

    WHICH is a number, on every system. On Linux it may be a path such as ``/dev/v4l/by-id/usb-...-index0``, or
    ``camera:PART`` with a part of the name that the system gives it; both find a camera again that comes back
    under another number. OpenCV tells no names on Windows and macOS. ``size`` (height, width) and ``fps`` are for
    a text without them. A camera that gives something else is used as it is, with a warning.

    Raises:
        SourceError: no such camera, or one that cannot be opened.
    """
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise SourceError(
            f"camera {text!r}",
            expected="0, 0@1280x720, 0@60, 0@1280x720@60; for 0 also /dev/v4l/by-id/... or camera:PART-OF-ITS-NAME",
            do="write ./NAME for a file",
        )
    which = found["which"]
    if found["width"]:
        size = int(found["height"]), int(found["width"])
    wish = _Wish(size, float(found["fps"]) if found["fps"] else fps)
    name = f"camera {which.removeprefix('camera:')}"
    if sys.platform == "darwin":
        # The system's question whether this program may use it is asked in the main thread only.
        _capture(name, _index_from(which)).release()
    return WatchedSource(name, "camera", lambda: _Camera(name, _index_from(which), wish), give_up)


@dataclass(frozen=True)
class _Wish:
    """What a camera is asked for: (height, width) and frames a second, None for what it likes."""

    size: tuple[int, int] | None
    fps: float | None

    def __str__(self) -> str:
        size = f"{self.size[1]}x{self.size[0]}" if self.size else ""
        return ", ".join(filter(None, [size, f"{self.fps:g} frames/s" if self.fps else ""]))


def _index_from(which: str) -> int:
    """OpenCV's number of a camera. Asked at every opening, as a camera that comes back may have another."""
    if which.isdigit():
        return int(which)
    if not sys.platform.startswith("linux"):
        raise SourceError(
            f"camera {which!r}", expected="a number: names and paths are known on Linux only", do="try 0, 1, 2"
        )
    return _index_of_name(which.removeprefix("camera:")) if which.startswith("camera:") else _index_of_path(Path(which))


def _index_of_path(path: Path) -> int:
    number = re.fullmatch(r"video(\d+)", path.resolve().name)
    if number is None or not path.exists():
        there = sorted(str(p) for p in path.parent.glob("*")) if path.parent.name.startswith("by-") else []
        raise SourceError(f"{path}, no such camera", expected=_one_of(there), do="check the cable and the path")
    return int(number[1])


def _index_of_name(part: str) -> int:
    names = _names()
    found = [index for index, name in sorted(names.items()) if part.lower() in name.lower()]
    if len(found) != 1:
        raise SourceError(
            f"camera:{part}, which {len(found)} cameras have in their name",
            expected=_one_of([f"{name} (camera {index})" for index, name in sorted(names.items())]),
            do="check the cable; name more of it, or use its number, or its path in /dev/v4l/by-id",
        )
    return found[0]


def _names() -> dict[int, str]:
    """Names of the cameras by number. A camera's later nodes carry metadata, not pictures, so only index 0 counts."""
    names = {}
    for node in _SYSFS.glob("video*"):
        try:
            if (node / "index").read_text().strip() == "0":
                names[int(node.name.removeprefix("video"))] = (node / "name").read_text().strip()
        except (OSError, ValueError):
            continue  # unplugged while we looked
    return names


def _one_of(cameras: list[str]) -> str:
    return "one of " + ", ".join(cameras) if cameras else "a camera; there is none"


def _capture(name: str, index: int) -> cv2.VideoCapture:
    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        camera.release()
        dialog = "answer the dialog, where there is one, then start again; " if sys.platform == "darwin" else ""
        raise SourceError(
            f"{name}, which cannot be opened",
            expected="a connected camera that no other program holds",
            do=f"{dialog}check the cable and the number (0 is the first camera), close other video programs, "
            "allow camera access in the system settings (Linux: be in the group that owns /dev/video*), "
            "or try the source 'test'",
        )
    return camera


class _Camera:
    """An open camera."""

    late: float | None = None

    def __init__(self, name: str, index: int, wish: _Wish) -> None:
        self._camera = _capture(name, index)
        self._ask(wish)
        height, width = self._number(cv2.CAP_PROP_FRAME_HEIGHT), self._number(cv2.CAP_PROP_FRAME_WIDTH)
        rate = self._number(cv2.CAP_PROP_FPS)
        self.size = (int(height), int(width)) if height >= 1 and width >= 1 else wish.size or (480, 640)
        self.fps = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else None
        facts = [f"{self.size[1]}x{self.size[0]}", f"{float(self.fps):g} frames/s" if self.fps else "", self._format()]
        self.description = f"{name}: {', '.join(filter(None, facts))}"
        other_rate = wish.fps and self.fps and abs(float(self.fps) - wish.fps) > 0.01 * wish.fps
        if (wish.size and self.size != wish.size) or other_rate:
            _log.warning("%s; asked was %s", self.description, wish)

    def _ask(self, wish: _Wish) -> None:
        height, width = wish.size or (480, 640)
        # The format comes first: a size that the old format cannot carry would be refused.
        if height * width * (wish.fps or 30) > _RAW_PIXELS:
            self._set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        if wish.size:
            self._set(cv2.CAP_PROP_FRAME_WIDTH, width)
            self._set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        if wish.fps:
            self._set(cv2.CAP_PROP_FPS, wish.fps)

    def _set(self, key: int, value: float) -> None:
        if self._camera.get(key) != value:  # on Windows each takes seconds
            self._camera.set(key, value)

    def _number(self, key: int) -> float:
        value = self._camera.get(key)
        return value if 0 < value < 1e6 else 0.0  # drivers answer 0, -1 or NaN to what they do not know

    def _format(self) -> str:
        code = self._camera.get(cv2.CAP_PROP_FOURCC)
        letters = int(code).to_bytes(4, "little") if 0 < code < 2**32 else b""
        return letters.decode("ascii").strip() if re.fullmatch(rb"[\w ]+", letters) else ""

    def __iter__(self) -> Iterator[Frame | None]:
        # Read without a pause, so that no older frame waits in the driver's queue. Some begin with nothing for a while.
        began, failed = False, 0
        while not began or failed < _FAILED:
            found, image = self._camera.read()
            began, failed = began or found, 0 if found else failed + 1
            if not found:
                time.sleep(_AGAIN)
            yield image if found else None  # type: ignore[misc] # of any dtype: the watchdog looks

    def close(self) -> None:
        self._camera.release()
