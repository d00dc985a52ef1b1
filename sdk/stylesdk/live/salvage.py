"""What can still be played of a recording that was cut off, by a full disk for one."""

from __future__ import annotations

from pathlib import Path

from stylesdk.errors import MissingExtraError

try:
    import av
except ImportError as error:
    raise MissingExtraError("av", "live", "video files") from error

MP4_SUFFIXES = frozenset({".m4v", ".mov", ".mp4"})


def container_options(suffix: str, *, lasting: bool) -> dict[str, str]:
    """Options of FFmpeg's muxer for ``suffix``; ``lasting`` files can be played to the last second wherever cut off."""
    if suffix in MP4_SUFFIXES:
        # Fragments that become an ordinary file when it is closed.
        fragments = {"movflags": "hybrid_fragmented", "frag_duration": "1000000"}
        return fragments if lasting else {"movflags": "faststart"}
    return {"cluster_time_limit": "1000"} if lasting else {}


def salvage(path: Path) -> bool:
    """Cut off what is not whole at the end of ``path``, a closed file; False if nothing in it can be played."""
    try:
        if path.suffix.lower() in MP4_SUFFIXES:
            _cut_half_a_fragment(path)
        with av.open(str(path)) as file:
            return next(file.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, IndexError):
        return False


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
