"""What a model promises: the manifest inside an ONNX file, and beside a TensorRT plan.

In an ONNX file the manifest is JSON in ``metadata_props["stylesdk.manifest"]``. Its ``sha256`` is that of the
whole file with these 64 characters replaced by zeros, so that every bit of the file is covered,
the manifest's own too. Beside ``NAME.plan`` it is ``NAME.plan.json``, and ``sha256`` is that of the plan.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylesdk.errors import ModelFileError

KEY = "stylesdk.manifest"
SCHEMA = 1
MAX_BYTES = 512 * 2**20  # larger than any real-time model; a guard against filling the memory
_ZEROS = "0" * 64
_REBUILD = "export the model again with `stylesdk export`, or copy the file again"


@dataclass(frozen=True)
class Engine:
    """What a TensorRT plan was built with and for."""

    flavour: str  # tensorrt, tensorrt_rtx, tensorrt_lean
    version: str  # of TensorRT, as its package says
    gpu: str = ""  # name of the GPU, "" for a portable plan
    compute_capability: str = ""  # "8.9", "" for a portable plan
    driver: str = ""  # CUDA version of the driver, "" for a portable plan
    targets: tuple[str, ...] = ()  # compute capabilities that a plan of TensorRT for RTX is for, none: Ampere and later
    onnx_sha256: str = ""  # of the ONNX file, where stylesdk built the plan by itself


@dataclass(frozen=True)
class Manifest:
    """What a model promises.

    ``min_size``, ``opt_size``, ``max_size`` are (height, width) in pixels that a plan takes; None in an ONNX
    file, which takes any size. ``reach`` is how many pixels to each side a styled pixel can depend on; 0 means
    unknown, or all of the frame, so that a frame cannot be styled in tiles.
    """

    name: str
    styles: tuple[str, ...]
    stride: int
    precision: str  # fp32, fp16, int8
    licence: str
    sha256: str = _ZEROS
    schema: int = SCHEMA
    min_size: tuple[int, int] | None = None
    opt_size: tuple[int, int] | None = None
    max_size: tuple[int, int] | None = None
    reach: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    engine: Engine | None = None

    def to_json(self) -> str:
        """One line of JSON, without white space, keys in order."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


def manifest_from_json(text: str, source: str) -> Manifest:
    """Parse a manifest. Raises ModelFileError where it is not one of this schema."""
    try:
        values = json.loads(text)
        schema = values.get("schema")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{source}, whose manifest is not JSON ({error})", do=_REBUILD) from error
    if schema != SCHEMA:
        raise ModelFileError(
            f"{source}, manifest schema {schema!r}",
            expected=f"schema {SCHEMA}",
            do="update stylesdk, or " + _REBUILD,
        )
    try:
        for key in ("styles", "min_size", "opt_size", "max_size"):
            values[key] = None if values[key] is None else tuple(values[key])
        engine = values["engine"] or None
        values["engine"] = engine and Engine(**engine | {"targets": tuple(engine.get("targets", ()))})
        manifest = Manifest(**values)
        _check_types(manifest)
        return manifest
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelFileError(f"{source}, whose manifest does not hold what it must ({error})", do=_REBUILD) from error


def _check_types(manifest: Manifest) -> None:
    """Raise TypeError for a field that others compute with and that is not what it must be."""
    if not isinstance(manifest.sha256, str) or not isinstance(manifest.precision, str):
        raise TypeError("sha256 and precision must be text")
    names = manifest.styles
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise TypeError("styles must be names, at least one, each once")
    pixels = (manifest.stride - 1, manifest.reach)  # TypeError where one is no number
    if not all(isinstance(value, int) and value >= 0 for value in pixels):
        raise TypeError("stride and reach must be whole numbers of pixels")


def sha256_of_onnx(data: bytes, manifest: Manifest) -> str:
    """SHA-256 of an ONNX file with the manifest's own ``sha256`` taken as zeros."""
    ours = f'"sha256":"{manifest.sha256}"'.encode()
    return hashlib.sha256(data.replace(ours, f'"sha256":"{_ZEROS}"'.encode(), 1)).hexdigest()


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file. Raises ModelFileError where it is missing, empty or over the size cap."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(f"{path}, {size / 2**20:.0f} MiB", expected=f"at most {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ModelFileError(
            f"{path}: {getattr(error, 'strerror', None) or error}",
            expected="a model file",
            do="check the path; `stylesdk styles` lists the bundled styles",
        ) from error
    if not data:
        raise ModelFileError(f"{path}, an empty file", do=_REBUILD)
    return data
