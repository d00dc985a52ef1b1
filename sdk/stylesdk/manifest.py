"""What a model promises: the manifest inside an ONNX file, and beside a TensorRT plan.

In an ONNX file the manifest is JSON in ``metadata_props["stylesdk.manifest"]``. Its ``sha256`` is that of the
whole file with these 64 characters replaced by zeros, so that every bit of the file is covered,
the manifest's own too. Beside ``NAME.plan`` it is ``NAME.plan.json``, and ``sha256`` is that of the plan.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylesdk.errors import ModelFileError

KEY = "stylesdk.manifest"
SCHEMA = 1
CODES_SCHEMA = 2  # of a manifest with a field in _NEWER: an older stylesdk must say that it is too old for it
STYLIZER = "stylizer"
COMPANIONS = ("encoder", "chooser")
MAX_BYTES = 512 * 2**20  # larger than any real-time model; a guard against filling the memory
_ZEROS = "0" * 64
_LARGEST = 3.4028235e38  # float32, as its shortest decimal
_LONGEST_NAME = 200  # characters, so that what is put behind it still makes a file name
_NEWER: dict[str, Any] = {"kind": STYLIZER, "codes": None, "companions": {}}  # left out where they say nothing
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

    ``codes``, where the graph's input ``style`` is a code and not mixing weights: that of each of ``styles``, all
    of one length. ``companions``: which graphs belong to the model, with the ``sha256`` of their manifests; they are
    files of their own, ``NAME.encoder.onnx`` and ``NAME.chooser.onnx`` with NAME the model's ``name``, whose ``kind``
    says what they are.
    """

    name: str
    styles: tuple[str, ...]
    stride: int
    precision: str  # fp32, fp16, int8
    licence: str
    sha256: str = _ZEROS
    min_size: tuple[int, int] | None = None
    opt_size: tuple[int, int] | None = None
    max_size: tuple[int, int] | None = None
    reach: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    engine: Engine | None = None
    kind: str = STYLIZER  # else one of COMPANIONS
    codes: tuple[tuple[float, ...], ...] | None = None
    companions: dict[str, str] = field(default_factory=dict)

    @property
    def style_length(self) -> int:
        """Numbers in the graph's input ``style``: of a code, or a weight for each style; 0 where there is none."""
        if self.codes:
            return len(self.codes[0])
        return len(self.styles) if len(self.styles) > 1 else 0

    def to_json(self) -> str:
        """One line of JSON, without white space, keys in order."""
        values = dataclasses.asdict(self)
        silent = [name for name, nothing in _NEWER.items() if values[name] == nothing]
        for name in silent:
            del values[name]
        # The schema comes behind the hash, where it always was.
        items = list(values.items())
        schema = SCHEMA if len(silent) == len(_NEWER) else CODES_SCHEMA
        items.insert(list(values).index("sha256") + 1, ("schema", schema))
        return json.dumps(dict(items), separators=(",", ":"))


def manifest_from_json(text: str, source: str) -> Manifest:
    """Parse a manifest. Raises ModelFileError where it is not one of this schema."""
    try:
        values = json.loads(text)
        schema = values.get("schema")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{source}, whose manifest is not JSON ({error})", do=_REBUILD) from error
    if schema not in (SCHEMA, CODES_SCHEMA):
        raise ModelFileError(
            f"{source}, manifest schema {schema!r}",
            expected=f"schema {SCHEMA} or {CODES_SCHEMA}",
            do="update stylesdk, or " + _REBUILD,
        )
    try:
        del values["schema"]
        for key in ("styles", "min_size", "opt_size", "max_size"):
            values[key] = None if values[key] is None else tuple(values[key])
        engine = values["engine"] or None
        values["engine"] = engine and Engine(**engine | {"targets": tuple(engine.get("targets", ()))})
        codes = values.get("codes")
        values["codes"] = None if codes is None else tuple(tuple(code) for code in codes)
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
    if manifest.kind not in (STYLIZER, *COMPANIONS):
        raise TypeError(f"kind must be {', '.join((STYLIZER, *COMPANIONS))}")
    if manifest.codes is not None:
        _check_codes(manifest.codes, len(names))
    kinds, hashes = manifest.companions.keys(), manifest.companions.values()  # AttributeError where it is no dict
    if not kinds <= set(COMPANIONS) or not all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes):
        raise TypeError(f"companions must be SHA-256 of {' and '.join(COMPANIONS)}")
    if manifest.companions and not manifest.style_length:
        raise TypeError("companions need codes or several styles")
    plain = isinstance(manifest.name, str) and re.fullmatch(rf"[^/\\:\0]{{1,{_LONGEST_NAME}}}", manifest.name)
    if manifest.companions and not plain:  # it leads to their files
        raise TypeError(f"name must be a file's, without a folder, of at most {_LONGEST_NAME} characters")


def _check_codes(codes: tuple[tuple[float, ...], ...], styles: int) -> None:
    lengths = {len(code) for code in codes}
    # Not > _LARGEST: that would let a NaN through.
    numbers = all(type(value) in (int, float) and abs(value) <= _LARGEST for code in codes for value in code)
    if len(codes) != styles or len(lengths) != 1 or 0 in lengths or not numbers:
        raise TypeError("codes must be float32 numbers, as many for each style")


def check_kind(manifest: Manifest, kind: str, source: str) -> None:
    """Raise ModelFileError where a file is not of ``kind``: a stylizer, or one of its companions."""
    if manifest.kind == kind:
        return
    found = f"the {manifest.kind} of {manifest.name}" if manifest.kind in COMPANIONS else "a stylizer"
    right = manifest.name if kind == STYLIZER else f"{manifest.name}.{kind}"
    raise ModelFileError(f"{source}, {found}", expected=f"a file of kind {kind}", do=f"give {right}.onnx")


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
