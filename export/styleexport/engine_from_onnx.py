"""TensorRT plan from an ONNX file in the frame contract, with its sidecar.

TensorRT for RTX builds on any machine, without a GPU; TensorRT builds on the GPU that the plan is for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from styleexport.build_progress import Progress, progress_monitor
from styleexport.errors import ExportError
from styleexport.rtx_targets import check_targets, set_targets
from stylesdk.backends.tensorrt_engine import EXTRAS, collecting_logger, import_flavour
from stylesdk.gpu import cuda_usable, open_device
from stylesdk.manifest import STYLIZER, Engine, Manifest, read_model_file
from stylesdk.onnx_file import manifest_from_onnx

Size = tuple[int, int]  # height, width in pixels
_SMALLEST = 16  # pixels a side


def engine_from_onnx(
    onnx_path: Path,
    plan_path: Path,
    *,
    min_size: Size,
    opt_size: Size,
    max_size: Size,
    flavour: str | None = None,
    precision: str | None = None,
    targets: Sequence[str] = (),
    progress: Progress | None = None,
) -> Manifest:
    """Build ``plan_path`` and its sidecar ``plan_path`` + ``.json`` from an ONNX file of any precision.

    Nothing is left half-written: where the build fails, an older plan and its sidecar stay as they are.

    Args:
        onnx_path: an ONNX file with a stylesdk manifest.
        plan_path: where to write the plan; its folder must exist.
        min_size: smallest (height, width) in pixels of a frame, 16 and more.
        opt_size: the size that the plan is made fast for.
        max_size: the largest; all three equal for a fixed-size plan.
        flavour: ``tensorrt``, ``tensorrt_rtx``, or ``tensorrt_lean``, which TensorRT builds for its lean runtime of
            this and later releases; None for ``tensorrt`` where it and a GPU are there, else ``tensorrt_rtx``.
        precision: ``fp16`` converts an fp32 file first; None takes the file as it is. An encoder or a chooser, which
            runs once and not for each frame, stays in fp32.
        targets: compute capabilities, such as ``8.9``, that a plan of TensorRT for RTX is for; none is the portable
            plan, for Ampere and later. Turing, ``7.5``, doubles the plan, and so needs one of its own.
        progress: called with the name of a phase and the share of it that is done, 0-1.

    Returns:
        The sidecar's manifest: with the plan's SHA-256, sizes, and what it was built with and for; in its quality
        ``difference_of_plan_graph`` is how far the graph of an int8 plan is from the int8 file.

    Raises:
        ExportError: bad sizes, flavour or targets, an int8 model that TensorRT would compute too differently, a
            graph that it refuses, a failed build, a folder that cannot be written.
        ModelFileError: a missing, damaged or foreign ONNX file.
        MissingExtraError: TensorRT (or, on a GPU, pycuda) is not installed.
        DeviceError: the GPU cannot be opened.
    """
    _check_sizes(min_size, opt_size, max_size)
    if not plan_path.parent.is_dir():
        raise ExportError(f"got: no folder {plan_path.parent}; expected: the folder of the plan.\nDo this: make it.")
    data = read_model_file(onnx_path)
    manifest = manifest_from_onnx(data, str(onnx_path))
    flavour = flavour or _best_flavour()
    _check_flavour(flavour)
    lean = flavour == "tensorrt_lean"
    trt = import_flavour("tensorrt" if lean else flavour)  # the lean runtime cannot build
    check_targets(trt, flavour, targets)
    engine = _engine(flavour, trt.__version__, targets)
    monitor = progress_monitor(trt, progress) if progress and hasattr(trt, "IProgressMonitor") else None
    if precision == "fp16" and manifest.precision == "fp32" and manifest.kind == STYLIZER:
        from styleexport.fp16_from_onnx import fp16_from_onnx

        data = fp16_from_onnx(data, str(onnx_path))
        manifest = manifest_from_onnx(data, str(onnx_path))
    if manifest.precision == "int8":
        from styleexport.int8_for_tensorrt import int8_plan_within_tolerance

        data, found = int8_plan_within_tolerance(data, str(onnx_path))
        quality = manifest.quality | {"difference_of_plan_graph": dataclasses.asdict(found)}
        manifest = dataclasses.replace(manifest, quality=quality)
    plan, problem = _build(trt, data, onnx_path, (min_size, opt_size, max_size), targets, monitor, lean)
    if monitor and monitor.failure:
        raise monitor.failure
    if problem:
        raise ExportError(problem)
    manifest = dataclasses.replace(
        manifest,
        sha256=hashlib.sha256(plan).hexdigest(),
        min_size=min_size,
        opt_size=opt_size,
        max_size=max_size,
        engine=engine,
    )
    _write(plan_path, plan, manifest)
    return manifest


def _check_sizes(low: Size, opt: Size, high: Size) -> None:
    ordered = all(_SMALLEST <= a <= b <= c for a, b, c in zip(low, opt, high, strict=True))
    if not ordered:
        raise ExportError(
            f"got: sizes (height, width) min {low}, opt {opt}, max {high}; "
            f"expected: {_SMALLEST} <= min <= opt <= max on both axes.\n"
            "Do this: give one --size WxH, or three in order."
        )


def _best_flavour() -> str:
    # The driver is asked first: importing tensorrt without one may crash the process.
    if not cuda_usable() and importlib.util.find_spec("tensorrt"):
        return "tensorrt"
    return "tensorrt_rtx"


def _check_flavour(flavour: str) -> None:
    if flavour not in EXTRAS:
        raise ExportError(f"got: flavour {flavour!r}; expected: {' or '.join(EXTRAS)}.")
    if flavour != "tensorrt_rtx" and (reason := cuda_usable()):
        raise ExportError(
            f"got: {reason}; expected: a GPU, on which TensorRT builds.\n"
            "Do this: build with flavour tensorrt_rtx, or on the machine that will run the plan."
        )


def _engine(flavour: str, version: str, targets: Sequence[str]) -> Engine:
    """What goes into the sidecar. An RTX plan is not tied to where it is built; a TensorRT plan always is."""
    if flavour == "tensorrt_rtx":
        return Engine(flavour, version, targets=tuple(targets))
    device = open_device()
    try:
        return Engine(flavour, version, device.name, device.compute_capability, device.driver)
    finally:
        device.close()


def _build(
    trt: Any,
    data: bytes,
    path: Path,
    sizes: tuple[Size, Size, Size],
    targets: Sequence[str],
    monitor: Any,
    lean: bool,
) -> tuple[bytes, str]:
    """The plan, or what went wrong.

    Nothing is raised here: an exception would keep the builder alive in its traceback, and the garbage
    collector, when it comes by in a callback of a later build, would wait for that build's lock forever.
    """
    version, logger = trt.__version__, collecting_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # what the bindings make of a null pointer
        return b"", f"got: TensorRT {version} does not start ({logger.last_error()}); expected: a builder."
    network = builder.create_network(_network_flags(trt))
    if problem := _parse(trt, network, logger, data):
        return b"", f"got: {path}, which TensorRT {version} cannot read:\n{problem}"
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("frame", *((1, height, width, 3) for height, width in sizes))
    if config.add_optimization_profile(profile) < 0:
        return b"", f"got: sizes {sizes}, which TensorRT refuses ({logger.last_error()})."
    if targets and not set_targets(trt, config, targets):
        return b"", f"got: targets {', '.join(targets)}, which TensorRT {version} refuses ({logger.last_error()})."
    if lean:  # what the plan needs of TensorRT comes with the lean runtime, and is not put into every plan
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if monitor and hasattr(config, "progress_monitor"):
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return b"", (
            f"got: {path}, which TensorRT {version} cannot build: {logger.last_error()}\n"
            "Do this: check the size, the graphics memory and the precision; fp16 builds everywhere."
        )
    return bytes(plan), ""


def _network_flags(trt: Any) -> int:
    """Precision is in the graph. The flag's number differs between majors; newer ones know nothing else."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _parse(trt: Any, network: Any, logger: Any, data: bytes) -> str:
    """Fill the network; returns what the parser does not like."""
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = [f"  node {e.node_name() or '?'} ({e.node_operator() or '?'}): {e.desc()}" for e in errors]
        return (
            "\n".join(told or [f"  {logger.last_error()}"]) + "\nexpected: operators and types that TensorRT knows.\n"
            "Do this: replace that operator in the generator, or run the ONNX file on onnxruntime."
        )
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    return "" if "frame" in names else f"its inputs are {names}; expected: frame and strength."


def _write(path: Path, plan: bytes, manifest: Manifest) -> None:
    """Plan and sidecar, each under a temporary name first, so that neither is ever half there."""
    sidecar = path.with_name(path.name + ".json")
    new_plan, new_sidecar = (p.with_name(f".{p.name}.{os.getpid()}.part") for p in (path, sidecar))
    try:
        _write_through(new_plan, plan)
        _write_through(new_sidecar, manifest.to_json().encode())
        # An old sidecar must never lie beside a new plan, not even for a moment.
        sidecar.unlink(missing_ok=True)
        new_plan.replace(path)
        new_sidecar.replace(sidecar)
    except OSError as error:
        raise ExportError(f"got: {error}; expected: room for {path} and the right to write it.") from error
    finally:
        new_plan.unlink(missing_ok=True)
        new_sidecar.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
