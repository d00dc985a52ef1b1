"""A backend that runs nothing: for tests of what lies around a runtime, ours and the user's."""

from __future__ import annotations

import numpy as np

from stylesdk.frames import Frame
from stylesdk.manifest import Manifest
from stylesdk.mix import Weights


class FakeBackend:
    """Inverts the frame: ``styled = frame + strength * ((255 - frame) - frame)``, rounded.

    Args:
        canvas: the one (height, width) that it takes, as a fixed-size engine does; None takes any.
        styles: names; the first one inverts, the others paint everything in an even grey, 50, 100 and so on.
        codes: of the styles, where the model takes codes; then it paints in the even grey of the code's sum.
    """

    name = "fake"

    def __init__(
        self,
        canvas: tuple[int, int] | None = None,
        styles: tuple[str, ...] = ("invert",),
        codes: tuple[tuple[float, ...], ...] | None = None,
    ) -> None:
        self.manifest: Manifest | None = Manifest(
            name="fake", styles=styles, stride=1, precision="fp32", licence="Apache-2.0", max_size=canvas, codes=codes
        )
        self._takes_code = codes is not None
        self.frames = 0
        self.closed = False
        self._canvas = canvas

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return self._canvas or size

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        self.frames += 1
        photo = frame.astype(np.float32)
        look = 255 - photo
        if style is not None and self._takes_code:
            look = np.full_like(photo, style.sum())
        elif style is not None:
            look = style[0] * look + float(style @ np.arange(len(style))) * 50
        styled = photo + strength * (look - photo)
        return np.rint(styled).astype(np.uint8)

    def close(self) -> None:
        self.closed = True
