"""A plan on disk, before TensorRT sees it: the file, its sidecar, and the machine that it was built for.

A plan has no checksum of its own, and a runtime notices a foreign one late, if at all. So the sidecar
``NAME.plan.json`` is compared with the file and with this machine first.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import warnings
from pathlib import Path

from stylesdk.errors import EngineMismatchError, ModelFileError
from stylesdk.gpu.device import Device
from stylesdk.manifest import Manifest, manifest_from_json, read_model_file

_FLAVOURS = {b"vtrt": "tensorrt_rtx", b"ftrt": "tensorrt"}  # first bytes of a plan -> the package that runs it
_HEADER = 64  # bytes
COPY_AGAIN = "copy the file again, or export it again with `stylesdk export RUN --format engine`"


def read_plan(path: Path) -> tuple[bytes, Manifest | None, str]:
    """The plan's bytes, its manifest, and its flavour."""
    data = read_model_file(path)
    manifest = _checked_sidecar(path, data)
    known = (*_FLAVOURS.values(), "tensorrt_lean")
    if manifest is not None and manifest.engine is not None and manifest.engine.flavour in known:
        return data, manifest, manifest.engine.flavour
    flavour = _FLAVOURS.get(data[:4])
    if flavour is None or len(data) < _HEADER:
        raise ModelFileError(f"{path}, which starts with {data[:4]!r}", expected="a TensorRT plan", do=COPY_AGAIN)
    length = int.from_bytes(data[16:24], "little")
    if flavour == "tensorrt_rtx" and length != len(data):
        raise ModelFileError(f"{path}, {len(data)} bytes", expected=f"{length} bytes (truncated file)", do=COPY_AGAIN)
    if manifest is None:
        warnings.warn(
            f"{path} has no {path.name}.json beside it: damage and a wrong GPU or TensorRT may go unnoticed",
            stacklevel=5,  # the line that made the Stylizer
        )
    return data, manifest, flavour


def sidecar_of(plan: Path) -> Path:
    """``NAME.plan.json``: the manifest of a plan."""
    return plan.with_name(plan.name + ".json")


def runtime_cache_of(plan: Path) -> Path:
    """``NAME.plan.cache``: the kernels that TensorRT for RTX compiled for a plan on this GPU, as it serialises them.

    The backend reads it when it opens the plan and writes it again when there are new ones. It may be missing or
    out of date at any time: TensorRT refuses what does not fit, and compiles again.
    """
    return plan.with_name(plan.name + ".cache")


def read_sidecar(plan: Path) -> Manifest | None:
    """The manifest beside a plan, None where there is none. Raises ModelFileError for a damaged one."""
    sidecar = sidecar_of(plan)
    if not sidecar.exists():
        return None
    return manifest_from_json(read_model_file(sidecar).decode("utf-8", "replace"), str(sidecar))


def _checked_sidecar(path: Path, data: bytes) -> Manifest | None:
    manifest = read_sidecar(path)
    if manifest is None:
        return None
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise ModelFileError(
            f"{path}, SHA-256 {found[:16]}…",
            expected=f"{manifest.sha256[:16]}…, as {sidecar_of(path).name} says (truncated or damaged plan)",
            do=COPY_AGAIN,
        )
    return manifest


def installed_version(flavour: str) -> str:
    """Version of the package without importing it, which may crash without a driver; "" when not installed."""
    try:
        return importlib.metadata.version(flavour.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_version(path: Path, manifest: Manifest | None, version: str) -> None:
    """Raise EngineMismatchError where ``version`` of TensorRT does not run the plan ("": not known).

    A plan runs on the very release that built it; one for the lean runtime on every later one of its major, too.
    """
    built = manifest.engine if manifest else None
    if not built or not version or built.version == version:
        return
    lean = built.flavour == "tensorrt_lean" and version.split(".")[0] == built.version.split(".")[0]
    if not lean or _numbers(version) < _numbers(built.version):
        raise EngineMismatchError(
            f"{path}, built by {built.flavour} {built.version}; this machine has {version}",
            expected=f"a plan of {built.flavour} {version}",
            do=rebuild_line(manifest),
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def check_gpu(path: Path, manifest: Manifest | None, device: Device) -> None:
    """Raise EngineMismatchError where the plan was built for another GPU."""
    built = manifest.engine if manifest else None
    if not built:
        return
    ours = {"GPU": device.name, "compute capability": device.compute_capability}
    wanted = {"GPU": built.gpu, "compute capability": built.compute_capability}
    for what, value in wanted.items():
        if value and value != ours[what]:
            raise EngineMismatchError(
                f"{path}, built for {what} {value}; this machine has {ours[what]}",
                expected=f"a plan for {ours[what]}",
                do=rebuild_line(manifest),
            )
    if built.targets and device.compute_capability not in built.targets:
        raise EngineMismatchError(
            f"{path}, built for compute capability {' and '.join(built.targets)}; "
            f"this machine has {device.compute_capability}",
            expected=f"a plan for {device.compute_capability}",
            do=rebuild_line(manifest),
        )


def rebuild_line(manifest: Manifest | None) -> str:
    """The command that builds the plan again."""
    height, width = (manifest and manifest.opt_size) or (720, 1280)
    return f"stylesdk export RUN --format engine --size {width}x{height}"
