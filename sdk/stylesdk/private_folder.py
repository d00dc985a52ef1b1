"""Folders for what stylesdk runs, as engines that it builds. Those are code: nobody else may write there."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from stylesdk.errors import DeviceError

_PRIVATE = 0o700


def cache_root() -> Path:
    """``stylesdk`` below XDG_CACHE_HOME, ~/.cache or, on Windows, LOCALAPPDATA; whether it is there or not."""
    named = Path(os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", ""))
    # A relative path is to be ignored, says the XDG base directory specification.
    return (named if named.is_absolute() else Path.home() / ".cache") / "stylesdk"


def private_folder(*names: str) -> Path:
    """The folder ``names`` below ``cache_root``, made where it is missing, each part with mode 0700.

    Raises:
        DeviceError: it cannot be made, is a symbolic link, belongs to somebody else, or others may write there.
    """
    folder = cache_root()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for part in ("", *names):
            folder = folder / part
            if not os.path.lexists(folder):
                folder.mkdir(_PRIVATE, exist_ok=True)  # in one step: it is never there with other rights
            _check_private(folder)
    except OSError as error:
        raise DeviceError(
            f"{error}", expected=f"a folder of your own, {folder}", do="set XDG_CACHE_HOME to a folder of your own"
        ) from error
    return folder


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    problem, do = "", "set XDG_CACHE_HOME to a folder of your own"
    if stat.S_ISLNK(found.st_mode):
        problem, do = "a symbolic link", f"rm '{folder}', or {do}"
    elif not stat.S_ISDIR(found.st_mode):
        problem, do = "no folder", f"rm '{folder}', or {do}"
    elif sys.platform != "win32" and found.st_uid != os.getuid():
        problem = f"which belongs to user {found.st_uid}"
    elif sys.platform != "win32" and found.st_mode & 0o022:
        problem, do = f"which others may write to (mode {found.st_mode & 0o777:o})", f"chmod 700 '{folder}'"
    if problem:
        raise DeviceError(f"{folder}, {problem}", expected="a folder of your own: what lies there is run", do=do)
