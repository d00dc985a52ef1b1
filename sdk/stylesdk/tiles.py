"""Frames too large for one piece: styled in overlapping tiles, with the same result.

A styled pixel depends on the frame no further than the model's ``reach`` to each side. So each tile is cut larger
by that, and what its inner sides have wrong is not used. Where a tile ends at the frame's border, the graph pads it
as it would pad the frame: tiles start at multiples of the stride, and what a tile's size leaves over from the
stride is what the frame's size leaves over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stylesdk.backends import Backend
from stylesdk.frames import Frame
from stylesdk.mix import Weights

# Side of the largest tile. A frame of more pixels than such a tile (2560x1440 has as many) is cut, so that no frame
# takes more memory than that one, some 0.2 GiB on the CPU. Common video stays whole: overlaps cost time.
TILE = 1920


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of a frame lie: every pair of a first row and a first column, all of one ``size``.

    ``size`` is (height, width); ``reach`` is what is wrong along a tile's inner sides; all in pixels.
    """

    size: tuple[int, int]
    rows: list[int]
    columns: list[int]
    reach: int


def infer_in_tiles(backend: Backend, frame: Frame, strength: float, style: Weights | None) -> Frame:
    """``backend.infer``, in tiles where the frame is large and the model allows it."""
    promise = backend.manifest
    # A plan has its memory already, and is fastest in the size that it was built for.
    if promise is None or promise.max_size is not None:
        return backend.infer(frame, strength, style)
    tiles = tiles_for((frame.shape[0], frame.shape[1]), promise.reach, promise.stride)
    if tiles is None:
        return backend.infer(frame, strength, style)
    return run_in_tiles(frame, tiles, lambda part: backend.infer(part, strength, style))


def tiles_for(size: tuple[int, int], reach: int, stride: int) -> Tiles | None:
    """The tiles of a frame of (height, width) ``size``; None where it is to be styled whole.

    ``reach`` 0 means that it is not known, or that there is none, as in a network with statistics over the frame.
    """
    if not reach or size[0] * size[1] <= TILE * TILE:
        return None
    (height, rows), (width, columns) = (_along(length, reach, stride) for length in size)
    return Tiles((height, width), rows, columns, reach)


def _along(length: int, reach: int, stride: int) -> tuple[int, list[int]]:
    """Length of a tile along one side of a frame, and the starts of all."""
    largest = max(TILE, 4 * reach)  # more overlap than picture would be a waste
    count = max(-(-(length - 2 * reach) // (largest - 2 * reach)), 1)
    step = -(-(length - 2 * reach) // (count * stride)) * stride
    last = max(length - step - 2 * reach, 0) // stride * stride
    return length - last, sorted({min(index * step, last) for index in range(count)})


def run_in_tiles(frame: Frame, tiles: Tiles, infer: Callable[[Frame], Frame]) -> Frame:
    """``infer`` tile by tile over a BGR uint8 (H, W, 3) frame; BGR uint8 (H, W, 3)."""
    out = np.empty_like(frame)
    height, width = tiles.size
    for row in tiles.rows:
        for column in tiles.columns:
            styled = infer(np.ascontiguousarray(frame[row : row + height, column : column + width]))
            # Neighbours overlap in what both have right. At the frame's own border all is right.
            top, left = (tiles.reach if start else 0 for start in (row, column))
            bottom = height - (tiles.reach if row < tiles.rows[-1] else 0)
            right = width - (tiles.reach if column < tiles.columns[-1] else 0)
            out[row + top : row + bottom, column + left : column + right] = styled[top:bottom, left:right]
    return out
