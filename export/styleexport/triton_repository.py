"""A model repository for Triton Inference Server, from an ONNX file in the frame contract, and TensorRT plans.

| folder                  | its version 1                                                                       |
|-------------------------|-------------------------------------------------------------------------------------|
| NAME_onnx/config.pbtxt  | model.onnx: joins frames of several clients, on onnxruntime                         |
| NAME_trt/config.pbtxt   | model.plan: one frame at a time, on TensorRT; of plans for several kinds of GPU,    |
|                         | model_8_9.plan and so on, by compute capability                                     |

Beside each config.pbtxt lie the model's encoder and chooser, where it has them: Triton leaves them alone, and clients,
who run them, find them there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from styleexport.batched_from_onnx import batched_from_onnx
from styleexport.companions import companions_beside
from styleexport.errors import ExportError
from styleexport.triton_config import Size, check_config, onnx_config, plan_config
from stylesdk.backends.plan_file import read_plan
from stylesdk.manifest import Engine, Manifest, read_model_file
from stylesdk.onnx_file import manifest_from_onnx

_BUILD = "build it on the server's GPU with `stylesdk export MODEL -o DIR --format engine --flavour tensorrt`"


@dataclass(frozen=True)
class Plan:
    """A TensorRT plan for Triton, its manifest, and what it was built with and for."""

    path: Path
    data: bytes
    manifest: Manifest
    engine: Engine

    @property
    def size(self) -> str:
        """``1280x720``, or the smallest and the largest one."""
        pixels = dict.fromkeys(size for size in (self.manifest.min_size, self.manifest.max_size) if size)
        return "-".join(f"{width}x{height}" for height, width in pixels)


@dataclass(frozen=True)
class _Model:
    """A folder of the repository: its config, and the files of version 1."""

    name: str
    config: str
    files: dict[str, bytes]


def triton_repository(model: Path, out: Path, *, plans: Sequence[Path] = (), warm_up: Size = (720, 1280)) -> list[Path]:
    """Write the folders of one style into the model repository ``out``; other models there stay as they are.

    Everything is built and checked before anything is written, and each folder then comes in place by a rename.

    Args:
        model: an ONNX file with a stylesdk manifest, of any precision; its encoder and its chooser are taken along.
        out: the repository, made when missing.
        plans: TensorRT plans of the same styles, with their sidecars: for one size one for each kind of GPU.
            Plans of several sizes become several models, ``NAME_trt_WIDTHxHEIGHT``.
        warm_up: (height, width) of the frames that the server runs before it calls the ONNX model ready.

    Returns:
        The folders.

    Raises:
        ExportError: a plan that Triton cannot run, or that does not belong to the model; a batch that differs from
            its frames one by one; a config that does not agree with its model; a folder that cannot be written.
        ModelFileError: a missing, damaged or foreign model or plan.
        MissingExtraError: tritonclient is not installed.
    """
    data = read_model_file(model)
    manifest = manifest_from_onnx(data, str(model))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", manifest.name)  # a folder, and a part of Triton's addresses
    opened = [_opened(plan, manifest) for plan in plans]
    models = [_onnx_model(f"{name}_onnx", data, manifest, str(model), warm_up), *_plan_models(name, opened, warm_up)]
    companions = {path.name: graph for path, graph in companions_beside(model).items()}
    return _write(models, companions, out)


def _onnx_model(name: str, data: bytes, manifest: Manifest, source: str, warm_up: Size) -> _Model:
    batched = batched_from_onnx(data, source)
    manifest = dataclasses.replace(manifest, sha256=hashlib.sha256(batched).hexdigest())
    config = onnx_config(name, manifest, warm_up)
    check_config(config, manifest, name, batched)
    return _Model(name, config, {"model.onnx": batched})


def _plan_models(name: str, plans: Sequence[Plan], warm_up: Size) -> list[_Model]:
    by_size: dict[str, list[Plan]] = {}
    for plan in plans:
        by_size.setdefault(plan.size, []).append(plan)
    several = len(by_size) > 1
    return [
        _plan_model(f"{name}_trt_{size}" if several else f"{name}_trt", group, warm_up)
        for size, group in by_size.items()
    ]


def _plan_model(name: str, plans: Sequence[Plan], warm_up: Size) -> _Model:
    _check_group(plans)
    single = len(plans) == 1
    files = {
        plan.engine.compute_capability: "model.plan"
        if single
        else f"model_{plan.engine.compute_capability.replace('.', '_')}.plan"
        for plan in plans
    }
    manifest, engine = plans[0].manifest, plans[0].engine
    if not single:  # what is true of all of them
        everywhere = Engine(engine.flavour, engine.version)
        manifest = dataclasses.replace(manifest, sha256=Manifest.sha256, quality={}, engine=everywhere)
    config = plan_config(name, manifest, files, warm_up)
    check_config(config, manifest, name)
    return _Model(name, config, {files[plan.engine.compute_capability]: plan.data for plan in plans})


def _opened(path: Path, manifest: Manifest) -> Plan:
    """A plan of the styles of ``manifest``, for Triton's TensorRT. Raises ExportError for any other."""
    if not path.with_name(f"{path.name}.json").is_file():
        raise ExportError(
            f"got: {path} without {path.name}.json beside it; expected: a plan with its sidecar, which says what GPU "
            f"and size it is for.\nDo this: copy both, or {_BUILD}."
        )
    data, promise, flavour = read_plan(path)
    engine = promise.engine if promise else None
    if flavour != "tensorrt":
        raise ExportError(
            f"got: {path}, a plan of {flavour}; expected: one of tensorrt, the only one that Triton's TensorRT backend "
            f"runs.\nDo this: {_BUILD}."
        )
    if promise is None or engine is None or not (engine.compute_capability and promise.min_size and promise.max_size):
        raise ExportError(f"got: {path}, whose sidecar names no GPU or no size; expected: both.\nDo this: {_BUILD}.")
    if (promise.name, promise.styles) != (manifest.name, manifest.styles):
        raise ExportError(
            f"got: {path}, a plan of {promise.name} ({', '.join(promise.styles)}); "
            f"expected: one of {manifest.name} ({', '.join(manifest.styles)}), as the model."
        )
    if (promise.codes, promise.companions) != (manifest.codes, manifest.companions):
        raise ExportError(
            f"got: {path}, a plan of {promise.name} with other style codes, or for another encoder or chooser; "
            f"expected: one that was built from the same export as the model.\nDo this: {_BUILD}."
        )
    return Plan(path, data, promise, engine)


def _check_group(plans: Sequence[Plan]) -> None:
    """Plans of one size stand in for each other: one for each kind of GPU, all of one TensorRT and precision."""
    seen: dict[str, Path] = {}
    for plan in plans:
        capability = plan.engine.compute_capability
        if capability in seen:
            raise ExportError(
                f"got: {seen[capability]} and {plan.path}, both of {plan.size} for compute capability {capability}; "
                "expected: one.\nDo this: leave one out."
            )
        seen[capability] = plan.path
        for what, value, first in (
            ("TensorRT", plan.engine.version, plans[0].engine.version),
            ("precision", plan.manifest.precision, plans[0].manifest.precision),
        ):
            if value != first:
                raise ExportError(
                    f"got: {plan.path} of {what} {value}, and {plans[0].path} of {first}; "
                    f"expected: plans of one size to have one {what}.\nDo this: build one of them again."
                )


def _write(models: Sequence[_Model], companions: Mapping[str, bytes], out: Path) -> list[Path]:
    """Each folder is written beside the repository, where no server looks, and renamed into it."""
    out = out.resolve()
    beside = out.parent / f".{out.name}.{os.getpid()}.part"
    try:
        for model in models:
            version = beside / model.name / "1"
            version.mkdir(parents=True)
            (version.parent / "config.pbtxt").write_text(model.config, encoding="utf-8")
            files = {version / name: data for name, data in model.files.items()}
            for path, data in (files | {version.parent / name: data for name, data in companions.items()}).items():
                with path.open("wb") as file:
                    file.write(data)
                    os.fsync(file.fileno())
        out.mkdir(parents=True, exist_ok=True)
        for model in models:
            _replace(beside / model.name, out / model.name, beside)
    except OSError as error:
        raise ExportError(
            f"got: {error}; expected: room for {out}, and the right to write it and the folder that it lies in"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [out / model.name for model in models]


def _replace(new: Path, place: Path, beside: Path) -> None:
    """Put ``new`` in ``place``; what was there before comes back when that fails."""
    before = beside / f"{place.name}.before"
    if place.exists():
        place.rename(before)
    try:
        new.rename(place)
    except OSError:
        if before.exists():
            before.rename(place)
        raise
