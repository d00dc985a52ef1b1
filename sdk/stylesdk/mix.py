"""The styles of a model: how they are named, and the weights that mix them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylesdk.errors import ModelFileError, StyleError
from stylesdk.frames import IMAGE_SUFFIXES
from stylesdk.manifest import STYLIZER, Manifest, check_kind

Weights = NDArray[np.float32]  # what a graph takes as ``style``: mixing weights (S,), or a code (C,)
StyleCode = NDArray[np.float32]  # (C,): what a style is to a model whose styles are codes
Mix = Mapping[str, float]

AUTO = "auto"  # instead of a style's name: the model chooses by the photo


def split_style(text: str) -> tuple[str, Mix | Path | str | None]:
    r"""``MODEL``, ``MODEL:NAME``, ``MODEL:A=0.7,B=0.3``, ``MODEL:PICTURE.jpg`` or ``MODEL:auto`` -> model and style.

    The style is a mix, the path of a picture, ``"auto"``, or None where none is asked for; a style that is called
    like a picture comes as a path. A colon of a path stays in the path: a drive's (``C:\x.onnx``), one before a
    separator, one in the name of a file that exists.

    Raises:
        StyleError: no name after the colon, one twice, a weight that is no number, or an address of the web.
    """
    if os.path.exists(text):
        return text, None
    if address := re.fullmatch(r".+?:([A-Za-z][A-Za-z0-9+.-]+://.*)", text):
        raise StyleError(f"{address[1]} as a style", expected="a picture on this machine", do="download it first")
    if Path(text).suffix.lower() in IMAGE_SUFFIXES and (found := _split_picture(text)):
        return found
    model, colon, mix = text.rpartition(":")
    if not colon or len(model) < 2 or "/" in mix or "\\" in mix:
        return text, None
    return model, AUTO if mix.strip() == AUTO else _mix_from_text(mix)


def _split_picture(text: str) -> tuple[str, Path] | None:
    """At the colon behind which a picture lies; where there is none, at the last one that is not a drive's."""
    colons = [index for index, letter in enumerate(text) if letter == ":" and index > 1]
    drives = [at for at in colons if text[at - 2] == ":" and text[at + 1 : at + 2] in ("/", "\\")]
    splits = [(text[:at], Path(text[at + 1 :])) for at in colons if at not in drives]
    there = [split for split in splits if split[1].is_file()]
    return next(iter(there or splits[-1:]), None)


def _mix_from_text(text: str) -> Mix:
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = (word.strip() for word in part.partition("="))
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            name = ""
        if not name or name in mix:
            raise StyleError(f"style {text!r}", expected="NAME, or NAME=WEIGHT,NAME=WEIGHT with each name once")
        mix[name] = value
    return mix


def weights_from_style(style: str | Mix, styles: tuple[str, ...]) -> Weights:
    """The mixing weights float32 (S,), with sum 1, of a style's name or of a mix of names, in the order of ``styles``.

    Raises:
        StyleError: a name that is not in ``styles``; no weight, one below 0, none above 0, or one that is no number.
    """
    if not isinstance(style, str | Mapping):
        raise StyleError(
            f"a style of type {type(style).__name__}",
            expected="a name, or names with weights; of a model with codes a code, a numpy array float32 (C,); "
            "of one with an encoder a picture, BGR uint8 (H, W, 3)",
        )
    mix: Mix = {style: 1.0} if isinstance(style, str) else style
    for name in mix:
        if name not in styles:
            raise StyleError(
                f"style {name!r}",
                expected=f"one of {', '.join(styles)}" if styles else "a plan with its sidecar, which names the styles",
                do="`stylesdk styles` lists the bundled styles; Stylizer.styles has those of a model",
            )
    try:
        values = np.array([float(mix.get(name, 0.0)) for name in styles])
    except (TypeError, ValueError):
        values = np.array([math.nan])
    # Not <= 0: that would let a NaN through.
    if not (values.min(initial=0) >= 0 and 0 < values.max(initial=0) < math.inf):
        raise StyleError(f"weights {dict(mix)}", expected="numbers, none below 0, at least one above 0")
    values /= values.max()  # first, as the sum of two large numbers may be infinite
    return np.asarray(values / values.sum(), dtype=np.float32)


def check_style_input(path: Path, manifest: Manifest | None, shape: Sequence[object] | None) -> None:
    """Compare the graph's input ``style`` (its shape; None where it has no such input) with the manifest's styles.

    Raises:
        ModelFileError: an encoder or a chooser; or an input of another length than the manifest's codes, or than
            its several styles, and one style without a code needs none.
    """
    if manifest:
        check_kind(manifest, STYLIZER, str(path))
    names, length = (manifest.styles, manifest.style_length) if manifest else ((), 0)
    found = None if shape is None else list(shape)
    if found != ([length] if length else None):
        raise ModelFileError(
            f"{path}, whose manifest names the styles {', '.join(names) or '(no manifest)'}, and whose "
            + ("graph has no input 'style'" if found is None else f"graph has an input 'style' of shape {found}"),
            expected=f"an input 'style' of shape [{length}], a code's length"
            if manifest and manifest.codes
            else "no input 'style' for one style, and one of shape [S] for S styles",
            do="copy a plan together with its .plan.json, or export the model again with `stylesdk export`",
        )
