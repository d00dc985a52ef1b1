"""Where styled frames go: nowhere, an image, a folder; and by files of their own a video, a window, a camera."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from stylesdk.errors import SinkError
from stylesdk.frames import IMAGE_SUFFIXES, Frame
from stylesdk.live.sources import Source, SourceFrame
from stylesdk.live.styling import Look
from stylesdk.live.window import WindowSink

VIDEO_SUFFIXES = frozenset({".m4v", ".mkv", ".mov", ".mp4", ".webm"})

_STILLS_FPS = Fraction(25)
_ROOM = 16 << 20  # bytes free before work starts: less would not hold half a minute of video


class Sink(Protocol):
    """Takes styled frames in order. After ``close`` or ``abort`` nothing more is written.

    ``close`` finishes what was written, also when the run was stopped early (``complete=False``); ``abort``
    leaves nothing half-written. A ``main_thread`` sink is written to by the thread that runs the pipeline.
    """

    @property
    def name(self) -> str: ...
    @property
    def main_thread(self) -> bool: ...
    def write(self, image: Frame, frame: SourceFrame) -> None: ...
    def close(self, *, complete: bool = True) -> None: ...
    def abort(self) -> None: ...


def open_sink(text: str | None, source: Source, look: Look | None = None) -> Sink:
    """Open what ``text`` names: ``null``, ``window``, ``fullscreen``, ``vcam``, a video or image file, or a folder.

    ``vcam`` is the first virtual camera, ``vcam:DEVICE`` a certain one, such as ``vcam:/dev/video4``. Words win
    over files: write ``./vcam``.

    None chooses by the source, in the current folder: ``STEM-styled.png`` for an image, ``STEM-styled.mp4``
    for a video, folder ``NAME-styled`` for many images, a window for what is live. A file that is there
    already is replaced when the run ends well; of a live recording, what there was before a fault is kept.
    ``look`` is what a window's keys change, and its HUD shows.

    Raises:
        SinkError: cannot be written, no space left, is an input of the run, or does not fit the source.
        MissingExtraError: a video file without PyAV, a virtual camera without pyvirtualcam.
    """
    text = text or _default(source)
    if text == "null":
        return NullSink()
    if text in ("window", "fullscreen"):
        return WindowSink(source, look, bare=text == "fullscreen")
    if text.partition(":")[0] == "vcam":
        from stylesdk.live.vcam import VirtualCameraSink

        return VirtualCameraSink(source, text.partition(":")[2] or None)
    path = Path(text).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir() or text.endswith(("/", os.sep)) or not suffix:
        return FolderSink(path, source)
    if suffix in IMAGE_SUFFIXES:
        return ImageSink(path, source)
    if suffix not in VIDEO_SUFFIXES:
        raise SinkError(
            f"output {text!r} with suffix {suffix}",
            expected=f"{' '.join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))}, a folder, window, fullscreen, vcam or null",
            do="choose one of these suffixes",
        )
    _refuse_inputs([path], source)
    from stylesdk.live.video_sink import VideoSink

    sound = source.paths[0] if source.kind == "video" and source.paths else None
    return VideoSink(path, sound, source.fps or _STILLS_FPS, keep=source.live)


def _default(source: Source) -> str:
    if source.live:
        return "window"
    return f"{source.name}-styled" + {"image": ".png", "video": ".mp4"}.get(source.kind, os.sep)


def _refuse_inputs(outputs: list[Path], source: Source) -> None:
    taken = {p.resolve() for p in source.paths}
    for path in outputs:
        # samefile too: a hard link, or another case of the same letters on some systems
        same = path.exists() and any(p.exists() and path.samefile(p) for p in source.paths)
        if same or path.resolve() in taken:
            raise SinkError(f"output {path}, which is an input", do="choose another name or folder")


def check_writable(folder: Path) -> None:
    """Raise SinkError unless a file can be made in ``folder``."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SinkError(
            f"folder {folder}: {error.strerror}",
            expected="a folder to write to",
            do="create it, or choose another",
        ) from error


def check_room(folder: Path) -> None:
    """Raise SinkError when the disk of ``folder`` is all but full."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise SinkError(
            f"folder {folder} with {free / 1e6:.1f} MB of free space",
            expected=f"at least {_ROOM / 1e6:.0f} MB",
            do="free some space, or choose another folder",
        )


def letterboxed(image: Frame, size: tuple[int, int]) -> Frame:
    """``image``, BGR uint8 (H, W, 3), in a frame of ``size`` (width, height): whole, unstretched, with black bars."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    inner = (max(round(width * scale), 1), max(round(height * scale), 1))
    out = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    area = out[top : top + inner[1], left : left + inner[0]]
    area[:] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return out


def write_image(path: Path, image: Frame) -> None:
    """Write BGR uint8 (H, W, 3) by the suffix of ``path``, in one step: the old file, or the whole new one.

    Raises:
        SinkError: disk full, folder not writable, or an unknown suffix.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        encoded, data = cv2.imencode(path.suffix, image)
        if not encoded:
            raise SinkError(f"{path}, which OpenCV cannot encode", do="use .png")
        part.write_bytes(data.tobytes())
        part.replace(path)
    except (OSError, cv2.error) as error:
        raise SinkError(f"{path}: {error}", do="check the free space and the folder's rights") from error
    finally:
        part.unlink(missing_ok=True)


class NullSink:
    """Drops every frame: for measuring."""

    name = "null"
    main_thread = False

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Drop ``image``."""

    def close(self, *, complete: bool = True) -> None:
        """Nothing is held open."""

    def abort(self) -> None:
        """Nothing was written."""


class ImageSink:
    """One image file, replaced in one step."""

    main_thread = False

    def __init__(self, path: Path, source: Source) -> None:
        if source.kind != "image":
            raise SinkError(
                f"image {path} as output of {source.name}, which has more than one frame",
                expected="a video file or a folder",
                do=f"use -o {path.stem}.mp4 or -o {path.stem}/",
            )
        _refuse_inputs([path], source)
        check_writable(path.parent)
        check_room(path.parent)
        self.name = str(path)
        self._path = path

    def write(self, image: Frame, frame: SourceFrame) -> None:  # noqa: ARG002
        """Write ``image``, BGR uint8 (H, W, 3)."""
        write_image(self._path, image)

    def close(self, *, complete: bool = True) -> None:
        """Written files are finished already."""

    def abort(self) -> None:
        """Nothing half-written exists."""


class FolderSink:
    """A PNG per frame: stills keep their stem, frames of a video are 000001.png and so on.

    Those of a live source go on from the highest number that is there.
    """

    main_thread = False

    def __init__(self, folder: Path, source: Source) -> None:
        if source.kind in ("image", "images"):
            _refuse_inputs([folder / f"{p.stem}.png" for p in source.paths], source)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"folder {folder}: {error.strerror}", do="choose another folder") from error
        check_writable(folder)
        check_room(folder)
        self.name = str(folder)
        self._folder = folder
        self._used: set[str] = set()
        # What is live cannot be had again: a run that is started again goes on behind the frames of the last one.
        there = [int(p.stem) for p in folder.glob("*.png") if source.live and re.fullmatch(r"[0-9]{6,}", p.stem)]
        self._written = max(there, default=0)

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Write ``image``, BGR uint8 (H, W, 3)."""
        self._written += 1
        stem = frame.name or f"{self._written:06d}"
        # a.jpg and a.png in one folder: both are kept.
        names = (stem if count == 1 else f"{stem}-{count}" for count in itertools.count(1))
        name = next(n for n in names if n not in self._used)
        self._used.add(name)
        write_image(self._folder / f"{name}.png", image)

    def close(self, *, complete: bool = True) -> None:
        """Written files are finished already."""

    def abort(self) -> None:
        """Whole frames stay; nothing half-written exists."""
