"""Memory of a program that runs for weeks."""

from __future__ import annotations

import ctypes
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_ARENAS = 2


def keep_arenas_few() -> None:
    """Tell glibc's malloc to serve all threads from two arenas; elsewhere, nothing is done.

    By default threads get up to eight a core. Frames are made in one thread and freed in another, recordings and
    reopened cameras bring new threads, and each arena keeps holes that no other can use: ten MiB a minute, for hours.
    Call it before threads start. It is of the whole process, so a program calls it, never a library.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none, and no arenas
        mallopt(_ARENA_MAX, _ARENAS)
