"""Bundled styles: ``STYLE[.SIZE][.PRECISION].onnx``, each with a model card ``STYLE[.SIZE].md``.

No size in the name means ``small``, no precision ``fp32``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stylesdk.errors import ModelFileError
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.onnx_file import manifest_from_onnx

DEFAULT = "starry_night"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Style:
    """One bundled model file."""

    name: str
    path: Path
    bytes: int
    manifest: Manifest


def resolve(model: str | os.PathLike[str]) -> Path:
    """The file of a bundled style's name, or of a path. A name with a suffix or a separator is a path."""
    text = os.fspath(model)
    bundled = _FOLDER / f"{text}.onnx"
    if os.sep not in text and "/" not in text and bundled.is_file():
        return bundled
    path = Path(text)
    if path.suffix or path.exists() or len(path.parts) > 1:
        return path
    raise ModelFileError(
        f"no style named {text!r}",
        expected=f"one of {', '.join(_names())}, or the path of a model file",
        do="`stylesdk styles` lists the bundled styles",
    )


def styles() -> list[Style]:
    """Every bundled model, by name, its file checked."""
    found: list[Style] = []
    for name in _names():
        path = _FOLDER / f"{name}.onnx"
        data = read_model_file(path)
        found.append(Style(name, path, len(data), manifest_from_onnx(data, str(path))))
    return found


def _names() -> list[str]:
    return sorted(path.name.removesuffix(".onnx") for path in _FOLDER.glob("*.onnx"))
