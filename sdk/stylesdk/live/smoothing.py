"""Steadies what does not move: noise of the camera makes a style flicker where the scene is still."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stylesdk.errors import FrameError
from stylesdk.frames import Frame

_COARSE = 4  # pixels of the photo to one of the map of changes: an average of 16 has a quarter of the noise
_STILL, _MOVED = 2.0, 6.0  # change of that average, of 255: noise at most; surely more than noise
_AROUND = np.ones((5, 5), np.uint8)  # of the map: a style moves a little beyond what moves
_CUT = 0.6  # share of a frame that moved, from which on it is another scene
_LEAST = 0.2  # share of the noise that is left at most: with less, light that changes slowly would lag visibly
_JUMP = 0.1  # share of its way that a control goes in one frame, from which on nothing is kept


class Smoother:
    """Blends each styled frame with the one before where the photo did not change.

    What it compares with is the photo that the result shows, blended by the same weights, not the photo before:
    so slow movement adds up until it is seen, and no ghost stays. The blend is kept in float32, as in uint8
    it would stand still some levels before its goal.

    While a control moves, less is kept: at a speed v, a weight k lags by v k / (1 - k). As k is at most
    1 - v / 0.1, what is shown is never a tenth of the way behind, and of a jump nothing old is left.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame comes out as it is."""
        self._shown: NDArray[np.float32] | None = None  # BGR (H, W, 3), 0-255
        self._seen: NDArray[np.float32] | None = None  # the photo in it, coarse

    def smooth(self, photo: Frame, styled: Frame, amount: float, control: float = 0.0) -> Frame:
        """The next frame of a clip, steadied.

        Args:
            photo: BGR uint8 (H, W, 3).
            styled: BGR uint8 of the same size; it is not changed.
            amount: 0-1, the share of the noise that is taken out of still parts, in effect at most 0.8;
                0 returns ``styled`` itself.
            control: how far the controls of the style went since the frame before, of all their way: 0 = they
                stood still, from 0.1 on nothing of the past is kept.

        Returns:
            BGR uint8 (H, W, 3). After another size, a cut or a jump of the controls it is ``styled``.

        Raises:
            FrameError: ``amount`` outside 0-1.
        """
        if not 0 <= amount <= 1:
            raise FrameError(f"smoothing {amount}", expected="0 to 1")
        if amount == 0:
            self.reset()
            return styled
        seen = _coarse(photo)
        calm = 1 - control / _JUMP
        if self._shown is None or self._seen is None or self._shown.shape != styled.shape or calm <= 0:
            return self._start(seen, styled)
        blue, green, red = cv2.split(cv2.absdiff(seen, self._seen))
        change = cv2.dilate(cv2.max(cv2.max(blue, green), red), _AROUND)
        if np.count_nonzero(change > _MOVED) > _CUT * change.size:
            return self._start(seen, styled)
        keep = np.clip((_MOVED - change) / (_MOVED - _STILL), 0, 1) * np.float32(_kept(amount) * calm)
        self._seen = seen + keep[:, :, None] * (self._seen - seen)
        height, width = styled.shape[:2]
        old = cv2.resize(keep, (width, height), interpolation=cv2.INTER_LINEAR)
        blend = cv2.blendLinear(self._shown, styled.astype(np.float32), old, 1 - old)
        self._shown = np.asarray(blend, dtype=np.float32)
        return np.asarray(cv2.convertScaleAbs(blend), dtype=np.uint8)

    def _start(self, seen: NDArray[np.float32], styled: Frame) -> Frame:
        self._seen, self._shown = seen, styled.astype(np.float32)
        return styled


def _coarse(photo: Frame) -> NDArray[np.float32]:
    """BGR float32 (H / 4, W / 4, 3), blurred: all channels, as colours of one luma can follow each other."""
    size = (-(-photo.shape[1] // _COARSE), -(-photo.shape[0] // _COARSE))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.blur(small, (3, 3)), dtype=np.float32)


def _kept(amount: float) -> float:
    """The old frame's weight that leaves a share 1 - ``amount`` of independent noise.

    A blend with weight k leaves sqrt((1 - k) / (1 + k)) of it in the long run.
    """
    left = max(1 - amount, _LEAST) ** 2
    return (1 - left) / (1 + left)
