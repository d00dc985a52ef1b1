"""Where plans are kept: NAME-KEY.plan in a folder of the user's own, each with its sidecar.

A plan is code that runs on the GPU, and its sidecar vouches for it. So nobody else may write there.
"""

from __future__ import annotations

import re
from pathlib import Path

from stylesdk.backends.plan_file import read_sidecar, runtime_cache_of, sidecar_of
from stylesdk.backends.tensorrt import TensorRTBackend
from stylesdk.engines.key import EngineKey
from stylesdk.errors import EngineMismatchError
from stylesdk.private_folder import cache_root, private_folder

ACCURACY = "accuracy_on_this_gpu"  # in a sidecar's quality: the plan has passed the gate


def cache_folder() -> Path:
    """Where plans are kept, whether it is there or not."""
    return cache_root() / "engines"


def private_cache_folder() -> Path:
    """``cache_folder``, made where it is missing, and nobody else's. Raises DeviceError where that cannot be."""
    return private_folder("engines")


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
