"""What a batch reads and writes, decided before any work starts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from stylesdk.batch.places import Place, absolute, open_place
from stylesdk.errors import SinkError, SourceError
from stylesdk.frames import IMAGE_SUFFIXES
from stylesdk.live.sinks import VIDEO_SUFFIXES

# Read, and written as .mp4.
_OTHER_VIDEOS = frozenset({".avi", ".gif", ".m2ts", ".mpeg", ".mpg", ".mts", ".wmv"})
_READABLE = IMAGE_SUFFIXES | VIDEO_SUFFIXES | _OTHER_VIDEOS
_MAGIC = frozenset("*?[")


class File(NamedTuple):
    """One file of a batch: its name in the source, and in the output."""

    name: str
    output: str


def plan_batch(source: str, output: str) -> tuple[Place, Place, list[File]]:
    """The source, the output, and the files to style: videos first, as they take longest, then by name.

    Args:
        source: a folder, searched in depth, a file, or a glob pattern with ``**`` for any depth; a path, or a URL
            that fsspec knows, such as ``s3://bucket/folder``. Hidden files are left out, and so is ``output``.
        output: a folder or URL; the folders of ``source`` are mirrored in it. Images and videos keep their names;
            a video of a kind that is only read becomes ``.mp4``.

    Raises:
        SourceError: nothing to style there, or a name that cannot be written again.
        SinkError: two files with the same output, an output that is an input, or an output folder without rights.
        MissingExtraError: the package of a bucket is not installed.
    """
    origin, names = _files_of(source)
    place = open_place(absolute(output))
    inside = f"{place.root}/".removeprefix(f"{origin.root}/") if place.root.startswith(f"{origin.root}/") else None
    wanted = sorted(name for name in names if PurePosixPath(name).suffix.lower() in _READABLE)
    if inside:
        wanted = [name for name in wanted if not name.startswith(inside)]
    if not wanted:
        raise SourceError(
            f"{source!r}, no image or video in it",
            expected=" ".join(sorted(_READABLE)),
            do="check the address or pattern",
        )
    files = [File(name, _output_name(name)) for name in wanted]
    _refuse_bad_names(wanted)
    _refuse_clashes(files)
    inputs = {f"{origin.root}/{file.name}" for file in files}
    for file in files:
        if f"{place.root}/{file.output}" in inputs:
            raise SinkError(f"output {place.root}/{file.output}, which is an input", do="choose another folder")
    place.check_writable()
    return origin, place, sorted(files, key=lambda file: _suffix(file.name) in IMAGE_SUFFIXES)


def _files_of(text: str) -> tuple[Place, Iterable[str]]:
    address = absolute(text)
    place = open_place(address)
    if place.is_folder():
        return place, place.names()
    head, _, name = address.rpartition("/")
    place = open_place(head or "/")
    if place.has(name):
        return place, [name]
    parts = address.split("/")
    fixed = next((i for i, part in enumerate(parts) if _MAGIC & set(part)), 0)
    if not fixed:
        raise SourceError(
            f"{text!r}, no such file",
            expected="a folder, an image, a video, a glob, or a URL such as s3://bucket/folder",
            do="check the path and the current folder",
        )
    place = open_place("/".join(parts[:fixed]) or "/")
    return place, place.names("/".join(parts[fixed:]))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _output_name(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".mp4")) if _suffix(name) in _OTHER_VIDEOS else name


def _refuse_bad_names(names: Iterable[str]) -> None:
    for name in names:
        # Keys of a bucket are any text: one of these would be written outside of the output.
        if name.startswith("/") or {"..", "."} & set(name.split("/")):
            raise SourceError(f"the name {name!r}", expected="a name without '..'", do="rename it")
        if name.encode(errors="replace").decode() != name:
            raise SourceError(f"the name {name!r}", expected="a name in UTF-8", do="rename it")


def _refuse_clashes(files: Iterable[File]) -> None:
    writers: dict[str, str] = {}
    for file in files:
        other = writers.setdefault(file.output, file.name)
        if other != file.name:
            raise SinkError(
                f"{other} and {file.name}, which would both become {file.output}",
                expected="one input for an output",
                do="rename one of them",
            )
