"""Memory that is lent out and comes back by itself when nobody holds it any more.

A result is the caller's to keep, and yet must not cost a fresh allocation and a copy for every frame.
"""

from __future__ import annotations

import math
import threading
import weakref

import numpy as np
from numpy.typing import NDArray

from stylesdk.gpu.device import Device

_IDLE = 3  # buffers that wait for the next frame; more are freed


class Lent:
    """A buffer that is lent as long as this lives. numpy takes an array from it, and keeps it alive with all views."""

    def __init__(self, buffer: NDArray[np.uint8]) -> None:
        self.buffer = buffer
        self.__array_interface__ = buffer.__array_interface__


def lent_array(lent: Lent, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The first bytes of what was lent as an array of ``shape``."""
    return np.asarray(lent)[: math.prod(shape)].reshape(shape)


class Pool:
    """Page-locked buffers; each comes back when the last array that shows it is garbage.

    Args:
        device: makes and frees them.
        most: buffers that may be lent at a time: page-locked memory is taken from the whole machine.
    """

    def __init__(self, device: Device, most: int) -> None:
        self._device, self._most = device, most
        self._idle: list[NDArray[np.uint8]] = []
        self._count = 0  # bytes of each
        self._lent = 0
        self._closed = False
        self._lock = threading.RLock()  # the garbage collector may come by inside

    def take(self, count: int) -> Lent | None:
        """A buffer of at least ``count`` bytes; None where too many are lent already.

        Raises:
            DeviceError: out of memory.
        """
        with self._lock:
            if self._lent >= self._most:
                return None
            if count > self._count:
                self._count = count
                self._free_idle()
            # The oldest first: whoever copies from a result behind our back has had the most time.
            buffer = self._idle.pop(0) if self._idle else self._device.lendable((self._count,), np.uint8)
            lent = Lent(buffer)
            self._lent += 1
            # At the interpreter's end the driver frees everything anyway, and may be gone before us.
            weakref.finalize(lent, self._back, buffer).atexit = False
            return lent

    def _back(self, buffer: NDArray[np.uint8]) -> None:
        with self._lock:
            self._lent -= 1
            if not self._closed and buffer.size >= self._count and len(self._idle) < _IDLE:
                self._idle.append(buffer)
                return
        self._device.free(buffer)

    def _free_idle(self) -> None:
        while self._idle:
            self._device.free(self._idle.pop())

    def close(self) -> None:
        """Free what is not lent; what is lent stays its owner's, and is freed after it."""
        with self._lock:
            self._closed = True
            self._free_idle()
