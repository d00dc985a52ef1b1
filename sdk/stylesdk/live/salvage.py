"""What can still be played of a recording that was cut off, by a full disk for one."""

from __future__ import annotations

import itertools
import logging
import os
import re
from pathlib import Path

from stylesdk.errors import MissingExtraError

try:
    import av
except ImportError as error:
    raise MissingExtraError("av", "live", "video files") from error

_log = logging.getLogger(__name__)
MP4_SUFFIXES = frozenset({".m4v", ".mov", ".mp4"})


def container_options(suffix: str, *, lasting: bool) -> dict[str, str]:
    """Options of FFmpeg's muxer for ``suffix``; ``lasting`` files can be played to the last second wherever cut off."""
    # A process that is killed takes with it what FFmpeg has not handed to the system yet.
    flushed = {"flush_packets": "1"}
    if suffix in MP4_SUFFIXES:
        # Fragments that become an ordinary file when it is closed.
        fragments = {"movflags": "hybrid_fragmented", "frag_duration": "1000000"} | flushed
        return fragments if lasting else {"movflags": "faststart"}
    return {"cluster_time_limit": "1000"} | flushed if lasting else {}


def salvage(path: Path) -> bool:
    """Cut off what is not whole at the end of ``path``, a closed file; False if nothing in it can be played."""
    try:
        if path.suffix.lower() in MP4_SUFFIXES:
            _cut_half_a_fragment(path)
        with av.open(str(path)) as file:
            return next(file.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, IndexError):
        return False


def part_of(path: Path, process: int) -> Path:
    """Where ``process`` writes ``path`` until it is whole."""
    return path.with_name(f".{path.stem}.{process}.part{path.suffix}")


def name_beside(path: Path, process: int) -> Path:
    """A name like ``path`` that is not taken, with the number of the ``process`` that wrote it."""
    numbers = itertools.count(1)
    names = (path.with_name(f"{path.stem}-{process}{f'-{n}' if n > 1 else ''}{path.suffix}") for n in numbers)
    return next(name for name in names if not name.exists())


def rescue(path: Path) -> None:
    """Give what killed processes left of live recordings to ``path`` names beside it, as far as it can be played."""
    for part in path.parent.glob(".*.part*"):
        process = re.fullmatch(re.escape(f".{path.stem}.") + r"(\d{1,9})" + re.escape(f".part{path.suffix}"), part.name)
        if process is None or _works(int(process[1])):
            continue
        kept = name_beside(path, int(process[1]))
        try:
            part.replace(kept)  # first: Windows refuses it where the process is still alive
        except OSError:
            continue
        if salvage(kept):
            _log.warning("%s was left by a run that was killed; what can be played of it is in %s", part, kept)
        else:
            kept.unlink(missing_ok=True)


def _works(process: int) -> bool:
    if process == os.getpid() or os.name == "nt":  # in a container every process may have the number of the last one
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _cut_half_a_fragment(path: Path) -> None:
    # ISO/IEC 14496-12: boxes one after the other, each a length (big endian, itself included) and a name.
    size, start, whole = path.stat().st_size, 0, 0
    with path.open("r+b") as file:
        while start + 8 <= size:
            file.seek(start)
            head = file.read(8)
            start += max(int.from_bytes(head[:4], "big"), 8)
            if head[4:] != b"moof" and start <= size:  # it only says what the box after it holds
                whole = start
        file.truncate(whole)
