"""A number and a time in the pixels of a frame, to be read at the other end of whatever a frame goes through.

The upper quarter of the frame is a grid of 24 x 5 even cells, black for 0 and white for 1, wherever they come to
lie in a frame of any size. The first row alternates, beginning with black: it tells what black and white have
become on the way. The others hold 96 bits, the highest first: the frame's number (32), its time in microseconds
(48), and the low 16 bits of the CRC-32 (ISO 3309) of those ten bytes. Of these, cells whose row plus column (from
0) is odd are inverted, as on a chessboard: a style turns large even areas into something else.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stylesdk.frames import Frame

_COLUMNS, _ROWS = 24, 5
_SAMPLES = 4  # a cell's side when it is read; the inner half of it counts
_CONTRAST = 24  # of 255, the least difference between black and white
_MICROSECOND = 1_000_000
_BOARD = np.indices((_ROWS, _COLUMNS)).sum(0) % 2 == 1  # white squares; the first row is all board


@dataclass(frozen=True)
class Stamp:
    """What a frame says of itself: its number, and when it was made, in seconds of ``clock.now``."""

    index: int
    seconds: float


def stamp_rows(height: int) -> int:
    """Rows of pixels that the stamp of a frame of this ``height`` takes, from the upper edge."""
    return max(height // 4, 1)


def write_stamp(image: Frame, stamp: Stamp) -> None:
    """Write ``stamp`` into the upper quarter of ``image``, BGR uint8 (H, W, 3), C-contiguous."""
    data = (stamp.index % 2**32).to_bytes(4, "big") + (round(stamp.seconds * _MICROSECOND) % 2**48).to_bytes(6, "big")
    bits = np.unpackbits(np.frombuffer(data + _checksum(data), np.uint8)).reshape(_ROWS - 1, _COLUMNS)
    cells = (np.vstack([np.zeros(_COLUMNS), bits]) != _BOARD) * np.uint8(255)
    rows = stamp_rows(image.shape[0])
    band = cv2.resize(cells, (image.shape[1], rows), interpolation=cv2.INTER_NEAREST)
    cv2.cvtColor(band, cv2.COLOR_GRAY2BGR, dst=image[:rows])


def read_stamp(image: Frame) -> Stamp | None:
    """The stamp of ``image``, BGR uint8 (H, W, 3) of any size; None where there is none, or it is damaged.

    Black and white may have become any two colours of different luma, also the other way round.
    """
    grey = cv2.cvtColor(image[: stamp_rows(image.shape[0])], cv2.COLOR_BGR2GRAY)
    size = (_COLUMNS * _SAMPLES, _ROWS * _SAMPLES)
    samples = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).reshape(_ROWS, _SAMPLES, _COLUMNS, _SAMPLES)
    inner = slice(_SAMPLES // 4, -(_SAMPLES // 4))
    cells: NDArray[np.float64] = samples[:, inner, :, inner].mean(axis=(1, 3))
    white, black = float(np.median(cells[0, _BOARD[0]])), float(np.median(cells[0, ~_BOARD[0]]))
    if abs(white - black) < _CONTRAST:
        return None
    ones = ((cells - (white + black) / 2) * (white - black) > 0) != _BOARD
    data = np.packbits(ones[1:]).tobytes()
    if ones[0].any() or _checksum(data[:10]) != data[10:]:
        return None
    return Stamp(int.from_bytes(data[:4], "big"), int.from_bytes(data[4:10], "big") / _MICROSECOND)


def _checksum(data: bytes) -> bytes:
    return (zlib.crc32(data) & 0xFFFF).to_bytes(2, "big")
