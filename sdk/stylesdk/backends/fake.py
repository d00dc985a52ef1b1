"""A backend that runs nothing: for tests of what lies around a runtime, ours and the user's."""

from __future__ import annotations

import numpy as np

from stylesdk.frames import Frame
from stylesdk.manifest import Manifest


class FakeBackend:
    """Inverts the frame: ``styled = frame + strength * ((255 - frame) - frame)``, rounded.

    Args:
        canvas: the one (height, width) that it takes, as a fixed-size engine does; None takes any.
    """

    name = "fake"

    def __init__(self, canvas: tuple[int, int] | None = None) -> None:
        self.manifest: Manifest | None = Manifest(
            name="fake", styles=("invert",), stride=1, precision="fp32", licence="Apache-2.0"
        )
        self.frames = 0
        self.closed = False
        self._canvas = canvas

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return self._canvas or size

    def infer(self, frame: Frame, strength: float) -> Frame:
        self.frames += 1
        photo = frame.astype(np.float32)
        styled = photo + strength * ((255 - photo) - photo)
        return np.rint(styled).astype(np.uint8)

    def close(self) -> None:
        self.closed = True
