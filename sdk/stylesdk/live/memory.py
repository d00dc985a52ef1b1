"""Memory of a program that runs for weeks."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from typing import Any

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_ARENAS = 1
_EVERY = 5.0  # seconds between two trims; each takes a millisecond or two


def keep_memory_flat() -> None:
    """Tell glibc's malloc to serve all threads from one arena, and to give back what they do not use.

    By default threads get up to eight arenas a core. Frames are made in one thread and freed in another, recordings
    and reopened cameras bring new threads, and each arena keeps holes that no other can use: ten MiB a minute, for
    hours. Call it before threads start. It is of the whole process, so a program calls it, never a library.
    Elsewhere than with glibc nothing is done.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_ARENA_MAX, _ARENAS)
        threading.Thread(target=_trim_for_ever, name="stylesdk-memory", daemon=True).start()


def trim() -> None:
    """Give holes back to the system; nothing where malloc is not glibc's."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    """The C library, or None where it is another one: musl has neither function, and no arenas."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None


def _trim_for_ever() -> None:
    while True:
        time.sleep(_EVERY)
        trim()
