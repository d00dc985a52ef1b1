"""Where frames come from: one grammar for test pattern, demo clip, cameras, streams, screen, images and videos."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import cv2

from stylesdk.errors import SourceError
from stylesdk.frames import IMAGE_SUFFIXES, Frame, image_from_file
from stylesdk.live.clock import now

Kind = Literal["image", "images", "video", "camera", "stream", "screen", "test"]

_log = logging.getLogger(__name__)
_SCHEMES = ("rtsp://", "http://", "https://", "tcp://", "udp://")
_GRAMMAR = (
    "test, test:N, test:WxH:N, test@RATE, demo, "
    "a camera (0, 0@1280x720, 0@1280x720@60, /dev/v4l/by-id/..., camera:NAME), "
    "a stream (rtsp:// http:// https:// tcp:// udp://), screen, screen:N, screen:X,Y,WxH, "
    "an image, a folder, a glob or a video file"
)


@dataclass(frozen=True)
class SourceFrame:
    """One frame and where it belongs.

    Args:
        image: BGR uint8 (H, W, 3).
        name: file stem of a still; empty for moving pictures.
        pts: presentation time in units of ``time_base`` seconds; None where the source knows no time.
        time_base: seconds per unit of ``pts`` and ``duration``.
        duration: how long the frame is shown; None where unknown.
        captured: when the frame came in, seconds of ``clock.now``: what the age of a shown frame counts from.
        signal: False for a card that says that the source is lost; it is shown as it is, not styled.
    """

    image: Frame
    name: str = ""
    pts: int | None = None
    time_base: Fraction | None = None
    duration: int | None = None
    captured: float = field(default_factory=now)
    signal: bool = True

    @property
    def seconds(self) -> float | None:
        """Presentation time; None where the source knows no time."""
        return None if self.pts is None or self.time_base is None else float(self.pts * self.time_base)


class Source(Protocol):
    """Frames to iterate over once, in order. ``close`` may be called twice.

    That of a ``live`` source may be called while another thread waits for its next frame, and ends the iteration.

    ``kind`` decides the default output, ``paths`` are the input files, so that no output overwrites them;
    ``live`` sources run by the clock, so a slow consumer misses frames instead of falling behind.
    ``description`` says what was really opened, such as ``camera 0: 1280x720, 30 frames/s, MJPG``.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def fps(self) -> Fraction | None: ...
    @property
    def live(self) -> bool: ...
    @property
    def frames(self) -> int | None: ...
    def __iter__(self) -> Iterator[SourceFrame]: ...
    def close(self) -> None: ...


def open_source(
    text: str, *, size: tuple[int, int] | None = None, fps: float | None = None, give_up: float = 30.0
) -> Source:
    """Open what ``text`` names. Words and addresses win over files: write ``./test`` for a file.

    ==================================================  ==========================================================
    ``test``, ``test:N``, ``test:640x480:N``, ``…@60``  a moving pattern, N frames of it, 60 a second
    ``demo``                                            our own rendered clip
    ``0``, ``0@1280x720``, ``0@60``, ``0@1280x720@60``  a camera, asked for this size and rate
    ``/dev/v4l/by-id/...``, ``camera:PART``             on Linux: a camera by its path, by a part of its name;
                                                        ``@`` as above
    ``rtsp:// http:// https:// tcp:// udp://``          a network stream; a file behind http is read to its end
    ``screen``, ``screen:N``, ``screen:X,Y,WxH``        the screen, the Nth (0: all as one), a part
    a path                                              an image, a folder of images, a glob, a video file
    ==================================================  ==========================================================

    Cameras, streams and the screen are live: the newest frame wins, and one that is lost is opened again.

    Args:
        text: see above.
        size: (height, width) in pixels that a camera is asked for, unless ``text`` says it.
        fps: frames a second that a camera or the screen is asked for, unless ``text`` says it.
        give_up: seconds after which a lost source raises SourceLostError.

    Raises:
        SourceError: nothing there, nothing readable in it, or a size or rate for what has its own.
        MissingExtraError: a video file or stream without PyAV, the screen without mss.
    """
    from stylesdk.live.camera import is_camera, open_camera

    if (fps is not None and not 0.1 <= fps <= 1000) or (size is not None and min(size) < 1):
        raise SourceError(f"size {size}, fps {fps}", expected="(height, width) of 1 or more, and 0.1 to 1000")
    camera, screen = is_camera(text), text.partition(":")[0] == "screen"
    _refuse_wish(text, size if not camera else None, fps if not (camera or screen) else None)
    if camera:
        return open_camera(text, size, fps, give_up)
    if screen:
        from stylesdk.live.screen import open_screen

        return open_screen(text, fps, give_up)
    if re.match(r"test(?![^:@])", text):
        from stylesdk.live.pattern import pattern_from_text

        return pattern_from_text(text)
    if text == "demo":
        from stylesdk.live.scene import SceneSource

        return SceneSource()
    if text.lower().startswith(_SCHEMES):
        from stylesdk.live.network import open_stream

        return open_stream(text, give_up)
    return _open_path(text)


def _refuse_wish(text: str, size: tuple[int, int] | None, fps: float | None) -> None:
    """Raise SourceError for a size or rate of what has its own."""
    if size is not None or fps is not None:
        wish = f"a size of {size[1]}x{size[0]}" if size else f"{fps:g} frames/s"
        raise SourceError(
            f"{wish} for {text!r}", expected="a camera, or for the rate the screen", do="leave size and rate away"
        )


def _open_path(text: str) -> Source:
    path = Path(text).expanduser()
    if path.is_dir():
        return StillsSource(path.resolve().name or "images", _images_in(path.iterdir(), text), "images")
    if path.exists():
        if path.suffix.lower() in IMAGE_SUFFIXES or _is_still(path):
            return StillsSource(path.stem, [path], "image")
        from stylesdk.live.video import VideoSource

        return VideoSource(path)
    if any(c in text for c in "*?["):
        root = Path(path.anchor or ".")
        found = root.glob(str(path.relative_to(path.anchor) if path.anchor else path))
        parent = path.parent.name
        name = parent if parent and not any(c in parent for c in "*?[.") else "images"
        return StillsSource(name, _images_in(found, text), "images")
    raise SourceError(f"{text!r}, no such file", expected=_GRAMMAR, do="check the path and the current folder")


def _images_in(paths: Iterator[Path], text: str) -> list[Path]:
    images = sorted(p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not images:
        raise SourceError(
            f"{text!r}, no image in it",
            expected="images: " + " ".join(sorted(IMAGE_SUFFIXES)),
            do="check the folder or pattern",
        )
    return images


def _is_still(path: Path) -> bool:
    # An image with a foreign suffix; GIF moves, so it is left to the video reader.
    return path.suffix.lower() != ".gif" and cv2.haveImageReader(str(path))


class StillsSource:
    """One image, or many. A broken one among many is skipped, counted in ``skipped`` and logged."""

    fps: Fraction | None = None
    live = False

    def __init__(self, name: str, paths: Sequence[Path], kind: Kind) -> None:
        self.name = name
        self.description = f"{len(paths)} images" if len(paths) > 1 else f"the image {paths[0]}"
        self.kind = kind
        self.paths = tuple(paths)
        self.frames: int | None = len(self.paths)
        self.skipped = 0

    def __iter__(self) -> Iterator[SourceFrame]:
        for path in self.paths:
            image = image_from_file(path)
            if image is not None:
                yield SourceFrame(image, path.stem)
                continue
            self.skipped += 1
            if self.kind == "images":
                _log.warning("skipped %s: not a readable image (%d so far)", path, self.skipped)
        if self.skipped == len(self.paths):
            raise SourceError(
                f"{self.paths[0]}, not a readable image" if self.skipped == 1 else "no readable image",
                expected="a whole JPEG, PNG, WebP, TIFF or BMP file",
                do="open it in a picture viewer; export or download it again",
            )

    def close(self) -> None:
        """Nothing is held open."""
