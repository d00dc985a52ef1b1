"""What a graph takes as style, whatever the style is given by: a name, a mix, a picture, a code, or "auto"."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylesdk.companion import Companion
from stylesdk.errors import StyleError
from stylesdk.frames import Frame, image_from_file
from stylesdk.manifest import Manifest
from stylesdk.mix import AUTO, Mix, StyleCode, Weights, weights_from_style

Style = str | Mix | Frame | StyleCode  # a name or "auto", a mix, a picture, a code


class Palette:
    """The styles of one model.

    Args:
        manifest: the model's; None for a plan without its sidecar, which has no styles to name.
        folder: of the model's file, where its encoder and its chooser lie.
        threads: of the CPU, for these two; None for every usable core.
    """

    def __init__(self, manifest: Manifest | None, folder: Path, threads: int | None = None) -> None:
        self._manifest, self._folder, self._threads = manifest, folder, threads
        self.names = manifest.styles if manifest else ()
        self.length = manifest.style_length if manifest else 0  # of the graph's input ``style``; 0: it has none
        codes = manifest.codes if manifest else None
        self._codes: NDArray[np.float32] | None = None if codes is None else np.array(codes, np.float32)
        self._companions: dict[str, Companion] = {}
        self.default_mix: Mix = {}  # name -> weight, with sum 1, of what was chosen by name
        self._default: Weights | None = None  # what the graph takes, where nobody asks for a style
        self._auto = False  # or what suits the photo

    def choose_default(self, chosen: Mix | Path | str | None) -> None:
        """What a style of None is from now on: as ``split_style`` has it, for None the first style.

        Raises as ``input``, and StyleError for a path that does not read as a picture.
        """
        if isinstance(chosen, Path) and str(chosen) in self.names:  # a style that is called like a picture
            chosen = {str(chosen): 1.0}
        if isinstance(chosen, Path):
            self._default = self.encode(_picture(chosen))
        elif self._is_auto(chosen):
            self._companion("chooser")
            self._auto = True
        elif chosen is not None or self.names:
            weights = weights_from_style(self.names[0] if chosen is None else chosen, self.names)
            named = zip(self.names, weights.tolist(), strict=True)
            self.default_mix = {name: weight for name, weight in named if weight}
            self._default = self._mixed(weights)

    @property
    def has_codes(self) -> bool:
        """Whether the graph takes a code, and not mixing weights."""
        return self._codes is not None

    def input(self, style: Style | None, photo: object = None) -> Weights | None:
        """What the graph takes as ``style``, float32: mixing weights (S,), or a code (C,); None where it takes none.

        ``photo`` is what ``"auto"`` chooses by. Codes mix as weights do: linearly.

        Raises:
            StyleError: a style that the model does not have, weights that do not mix, no code of this model, or
                what ``Companion`` raises.
            ModelFileError, DeviceError, MissingExtraError: as ``Companion``.
        """
        if isinstance(style, np.ndarray):
            return self.encode(style) if style.dtype == np.uint8 else self._checked(style)
        if self._is_auto(style):
            return self.input(self.choose(photo))
        given = self._default if style is None else self._mixed(weights_from_style(style, self.names))
        return given if self.length else None

    def held(self, style: Style | None, frames: Iterable[Frame]) -> tuple[Style | None, Iterable[Frame]] | None:
        """``style`` as one that stays the same: a picture's code, and for ``"auto"`` what suits the first frame.

        None for ``"auto"`` without a frame to choose by.
        """
        if isinstance(style, np.ndarray) and style.dtype == np.uint8:
            return self.encode(style), frames
        if not self._is_auto(style):
            return style, frames
        rest = iter(frames)
        for first in rest:
            return self.choose(first), chain([first], rest)
        return None

    def encode(self, picture: object) -> StyleCode:
        """The code float32 (C,) of a style picture, BGR uint8 (H, W, 3)."""
        return self._checked(self._companion("encoder").run(picture))

    def choose(self, photo: object) -> Mix | StyleCode:
        """The style that the model's chooser takes for a photo, BGR uint8 (H, W, 3): a code, or a mix of names."""
        chosen = self._companion("chooser").run(photo)
        if self._codes is None:
            return dict(zip(self.names, chosen.tolist(), strict=True))
        return self._checked(chosen)

    def close(self) -> None:
        """Free the encoder and the chooser."""
        self._companions.clear()

    def _is_auto(self, style: object) -> bool:
        if style is None:
            return self._auto
        return isinstance(style, str) and style == AUTO and AUTO not in self.names

    def _mixed(self, weights: Weights) -> Weights:
        return weights if self._codes is None else weights @ self._codes

    def _companion(self, kind: str) -> Companion:
        """The model's encoder or chooser, opened once."""
        if self._manifest is None:
            raise StyleError(f"a style by {kind}, for a plan without its sidecar", expected="copy its .plan.json, too")
        if kind not in self._companions:
            self._companions[kind] = Companion(kind, self._manifest, self._folder, self._threads)
        return self._companions[kind]

    def _checked(self, code: NDArray[np.generic]) -> StyleCode:
        """``code`` as float32 (C,). Raises StyleError where it is none of this model."""
        if self._codes is None:
            raise StyleError(
                f"a style of type ndarray, {code.dtype} {code.shape}",
                expected="a name, or names with weights: this model has no codes",
            )
        expected = f"a code of this model: finite float32 ({self.length},)"
        if code.shape != (self.length,) or not np.issubdtype(code.dtype, np.floating):
            raise StyleError(
                f"a style array of {code.dtype} {code.shape}", expected=f"{expected}, or a picture, BGR uint8 (H, W, 3)"
            )
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused
            found = np.ascontiguousarray(code, np.float32)
        if not np.isfinite(found).all():
            raise StyleError("a style code with a NaN or an infinity in it", expected=expected)
        return found


def _picture(path: Path) -> Frame:
    image = image_from_file(path)
    if image is None:
        raise StyleError(f"{path}, which does not read as a picture", expected="a style picture", do="check the path")
    return image
