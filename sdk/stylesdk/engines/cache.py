"""Where plans are kept: NAME-KEY.plan in a folder of the user's own, each with its sidecar.

A plan is code that runs on the GPU, and its sidecar vouches for it. So nobody else may write there.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from stylesdk.backends.plan_file import read_sidecar, runtime_cache_of, sidecar_of
from stylesdk.backends.tensorrt import TensorRTBackend
from stylesdk.engines.key import EngineKey
from stylesdk.errors import DeviceError, EngineMismatchError

ACCURACY = "accuracy_on_this_gpu"  # in a sidecar's quality: the plan has passed the gate
_PRIVATE = 0o700


def cache_folder() -> Path:
    """Where plans are kept, whether it is there or not: below XDG_CACHE_HOME, ~/.cache or, on Windows, LOCALAPPDATA."""
    named = Path(os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", ""))
    # A relative path is to be ignored, says the XDG base directory specification.
    return (named if named.is_absolute() else Path.home() / ".cache") / "stylesdk" / "engines"


def private_cache_folder() -> Path:
    """``cache_folder``, made where it is missing, mode 0700.

    Raises:
        DeviceError: it cannot be made, is a symbolic link, belongs to somebody else, or others may write there.
    """
    folder = cache_folder()
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            if not os.path.lexists(each):
                each.mkdir(_PRIVATE, exist_ok=True)  # in one step: it is never there with other rights
            _check_private(each)
    except OSError as error:
        raise DeviceError(
            f"{error}", expected=f"a folder for TensorRT plans, {folder}", do="set XDG_CACHE_HOME to one of your own"
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
        raise DeviceError(
            f"{folder}, {problem}", expected="a folder of your own: a TensorRT plan is code that runs on the GPU", do=do
        )


def plan_path(folder: Path, model: Path, key: EngineKey) -> Path:
    """Where the plan of ``key`` is, or will be."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", model.stem)[:60]
    return folder / f"{name}-{key.name}.plan"


def open_kept(plan: Path, key: EngineKey) -> TensorRTBackend | None:
    """Open the plan of ``key``; None where there is none, or one that is not finished and checked yet.

    Raises:
        EngineMismatchError, ModelFileError: there is one that does not fit, or no longer; it has to be built again.
        DeviceError: the GPU failed, or has not enough memory.
    """
    sidecar = read_sidecar(plan)
    if sidecar is None or ACCURACY not in sidecar.quality or not plan.exists():
        return None
    if differences := key.differences(sidecar):
        raise EngineMismatchError(f"{plan}, whose sidecar has {'; '.join(differences)}")
    return TensorRTBackend(plan, device="cuda")


def remove(plan: Path) -> None:
    """Remove a plan, all that belongs to it, and what a build that was stopped left of it. Hold its lock."""
    # The sidecar first: without it a plan counts as not there.
    for path in (sidecar_of(plan), plan, runtime_cache_of(plan), *plan.parent.glob(f".{plan.name}.*.part")):
        path.unlink(missing_ok=True)


def kept() -> str:
    """What the cache holds, in words."""
    folder = cache_folder()
    plans = [path.stat().st_size for path in folder.glob("*.plan")]
    return f"{len(plans)} in {folder}, {sum(plans) / 1e6:.1f} MB"
