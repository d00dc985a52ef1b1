"""One file, one holder, in this process or another. The system frees it when the holder dies."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL = 0.1  # seconds


class Cancelled(Exception):  # noqa: N818  # no error: somebody asked for it
    """The work was called off."""


@contextmanager
def locked(path: Path, cancelled: threading.Event) -> Iterator[None]:
    """Hold the lock ``path``, after whoever holds it now; the file is gone afterwards.

    Raises:
        Cancelled: ``cancelled`` was set while waiting.
        OSError: the file cannot be made.
    """
    handle = _acquire(path, cancelled)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file
            path.unlink()
        os.close(handle)


def _acquire(path: Path, cancelled: threading.Event) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _try_lock(handle):
                if cancelled.wait(_POLL):
                    raise Cancelled
            # The holder before us has removed its file: what we hold then is one that nobody else will see.
            if _is_file(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
