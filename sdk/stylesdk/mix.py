"""Several styles in one model: how they are named, and the weights that mix them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylesdk.errors import ModelFileError, StyleError
from stylesdk.manifest import Manifest

Weights = NDArray[np.float32]
Mix = Mapping[str, float]


def split_style(text: str) -> tuple[str, Mix | None]:
    r"""``MODEL``, ``MODEL:NAME`` or ``MODEL:A=0.7,B=0.3`` -> the model, and the mix asked for (None: none).

    A colon of a path stays in the path: a drive's (``C:\x.onnx``), one before a separator, one in the name of
    a file that exists.

    Raises:
        StyleError: no name after the colon, one twice, or a weight that is no number.
    """
    model, colon, mix = text.rpartition(":")
    if not colon or len(model) < 2 or "/" in mix or "\\" in mix or os.path.exists(text):
        return text, None
    return model, _mix_from_text(mix)


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
    """The weights float32 (S,), with sum 1, of a style's name or of a mix of names, in the order of ``styles``.

    Raises:
        StyleError: a name that is not in ``styles``; no weight, one below 0, none above 0, or one that is no number.
    """
    if not isinstance(style, str | Mapping):
        raise StyleError(f"a style of type {type(style).__name__}", expected="a name, or names with weights")
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
        ModelFileError: several styles need an input of exactly as many weights, one style needs none.
    """
    names = manifest.styles if manifest else ()
    expected = [len(names)] if len(names) > 1 else None
    found = None if shape is None else list(shape)
    if found != expected:
        raise ModelFileError(
            f"{path}, whose manifest names the styles {', '.join(names) or '(no manifest)'}, and whose "
            + ("graph has no input 'style'" if found is None else f"graph has an input 'style' of shape {found}"),
            expected="no input 'style' for one style, and one of shape [S] for S styles",
            do="copy a plan together with its .plan.json, or export the model again with `stylesdk export`",
        )
