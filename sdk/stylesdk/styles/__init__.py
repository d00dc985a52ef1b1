"""Bundled styles: ``STYLE[.SIZE][.PRECISION].onnx``, each style with a model card ``STYLE.md``.

No size in the name means ``small``, no precision ``fp32``. A model that takes pictures as styles has its encoder
beside it, ``NAME.encoder.onnx``; one that chooses a style for a photo its chooser, ``NAME.chooser.onnx``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stylesdk.backends.plan_file import read_sidecar
from stylesdk.errors import ModelFileError
from stylesdk.frames import Frame
from stylesdk.manifest import COMPANIONS, Manifest, read_model_file
from stylesdk.mix import StyleCode
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.palette import Palette

DEFAULT = "starry_night"
_FOLDER = Path(__file__).parent
_MODEL_SUFFIXES = (".onnx", ".plan", ".engine")


@dataclass(frozen=True)
class Style:
    """One bundled model file."""

    name: str
    path: Path
    bytes: int
    manifest: Manifest


def resolve(model: str | os.PathLike[str]) -> Path:
    """The file of a bundled style's name, or of a path.

    A text is a path where it exists, has a separator, or ends as a model file does; a ``Path`` also with any suffix.

    Raises:
        ModelFileError: a name that no bundled style has.
    """
    text = os.fspath(model)
    path = Path(text)
    separated = os.sep in text or "/" in text
    bundled = _FOLDER / f"{text}.onnx"
    if not separated and bundled.is_file():
        return bundled
    # Names of bundled files have dots too: the suffix of a text may be a mistyped size or precision.
    suffixed = path.suffix.lower() in _MODEL_SUFFIXES or (path.suffix and not isinstance(model, str))
    if separated or suffixed or path.exists():
        return path
    names = _names()
    of_style = [name for name in names if name.split(".")[0] == text.split(".")[0]]
    raise ModelFileError(
        f"no style named {text!r}",
        expected=f"one of {', '.join(of_style or names)}, or the path of a model file",
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


def encode(image: Frame, model: str | os.PathLike[str]) -> StyleCode:
    """The style of a picture as a code, for ``Stylizer.run(frame, style=code)``: computed once, used for every frame.

    Args:
        image: the style picture, BGR uint8 (H, W, 3), 0-255, 16 pixels a side and more. One longer than 1024 pixels
            is scaled down to that.
        model: path of an ONNX file or TensorRT plan whose encoder lies beside it, or the name of a bundled style.

    Returns:
        float32 (C,), without a unit. Codes of one model mix linearly: 0.5 * a + 0.5 * b lies between two styles.

    Raises:
        StyleError: a model without an encoder, or no such picture.
        ModelFileError: the model or its encoder is missing, damaged, or foreign.
        MissingExtraError: neither onnxruntime nor OpenVINO is installed.
    """
    path = resolve(model)
    plan = path.suffix.lower() in (".plan", ".engine")
    manifest = read_sidecar(path) if plan else manifest_from_onnx(read_model_file(path), str(path))
    return Palette(manifest, path.parent).encode(image)


def _names() -> list[str]:
    names = [path.name.removesuffix(".onnx") for path in _FOLDER.glob("*.onnx")]
    return sorted(name for name in names if not name.endswith(tuple(f".{kind}" for kind in COMPANIONS)))
