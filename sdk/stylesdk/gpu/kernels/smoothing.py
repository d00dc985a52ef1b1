"""Smoothing of a live clip whose frames lie on the GPU."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from stylesdk.errors import FrameError
from stylesdk.gpu.kernels.launch import Kernels, check_size

_COARSE = 4  # pixels of the photo to one of the map, as in smooth.h
_ALIGNED = 256  # bytes, as the driver aligns allocations


class DeviceSmoother:
    """``stylesdk.live.smoothing.Smoother`` on the GPU: the same arithmetic, on addresses instead of arrays.

    Args:
        kernels: they run in the context that is current.
        memory: address of ``smoothing_bytes(largest)`` bytes of device memory, aligned to 256; the smoother's alone
            as long as it is used, and not initialised. The caller frees it.
        largest: (height, width) of the largest frame.

    Raises:
        FrameError: an address or a size that cannot be.
    """

    def __init__(self, kernels: Kernels, memory: int, largest: tuple[int, int]) -> None:
        if memory <= 0 or memory % _ALIGNED:
            raise FrameError(f"address {memory}", expected=f"device memory aligned to {_ALIGNED} bytes")
        self._kernels, self._memory, self._largest = kernels, memory, largest
        self._count = smoothing_bytes(largest)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next frame comes out as it is."""
        self._size: tuple[int, int] | None = None  # of the frame that the memory holds

    def smooth(self, photo: int, styled: int, out: int, size: tuple[int, int], amount: float, stream: Any) -> None:
        """Queue the next frame of a clip, steadied. A cut is found on the GPU: nothing waits.

        A CUDA graph that captures this repeats its ``amount``; capture the second frame of a size, not the first,
        which starts anew.

        Args:
            photo: BGR uint8 (H, W, 3).
            styled: BGR uint8 of the same size.
            out: BGR uint8 of the same size, written; it may be ``styled``.
            size: (H, W).
            amount: 0-1, as ``Smoother.smooth`` takes it; 0 copies ``styled`` and forgets the past.
            stream: a ``pycuda.driver.Stream``, the same for all frames of a clip.

        Raises:
            FrameError: ``amount`` outside 0-1, a frame that needs more memory than ``largest``, or an address or a
                size that cannot be.
        """
        if not 0 <= amount <= 1:
            raise FrameError(f"smoothing {amount}", expected="0 to 1")
        if smoothing_bytes(size) > self._count:
            raise FrameError(f"a frame of {size}", expected=f"at most {self._largest}, which memory was made for")
        if 0 in (photo, styled, out):
            raise FrameError("address 0", expected="the address of device memory")
        self._queue(photo, styled, out, size, amount if size == self._size else 0.0, stream)
        self._size = size if amount else None

    def _queue(self, photo: int, styled: int, out: int, size: tuple[int, int], amount: float, stream: Any) -> None:
        launch, coarse = self._kernels.launch, _coarse(size)
        ends = accumulate(_parts(size), initial=self._memory)
        shown, past, seen, small, change, around, keep, moved, _ = ends
        launch("resize_area", coarse, stream, photo, small, size[1], *size, *coarse, *coarse)
        launch("smooth_compare", coarse, stream, small, past, seen, change, moved, *coarse)
        launch("smooth_spread", coarse, stream, change, around, moved, *coarse)
        launch("smooth_keep", coarse, stream, around, moved, seen, past, keep, *coarse, amount)
        launch("smooth_blend", size, stream, styled, keep, shown, out, *size)


def smoothing_bytes(size: tuple[int, int]) -> int:
    """Bytes of device memory that a DeviceSmoother needs for frames of ``size`` (height, width).

    Raises:
        FrameError: a size that cannot be.
    """
    check_size(size)
    return sum(_parts(size))


def _parts(size: tuple[int, int]) -> list[int]:
    """Bytes of what ``_queue`` unpacks: three images of float32 BGR, one of uint8, three maps of float32, a counter."""
    frame, coarse = size[0] * size[1], _coarse(size)[0] * _coarse(size)[1]
    counts = [12 * frame, 12 * coarse, 12 * coarse, 3 * coarse, 4 * coarse, 4 * coarse, 4 * coarse, 4]
    return [-(-count // _ALIGNED) * _ALIGNED for count in counts]


def _coarse(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // _COARSE), -(-size[1] // _COARSE)
