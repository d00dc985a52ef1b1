"""Memory that is lent out and comes back by itself when nobody holds it any more.

A result is the caller's to keep, and yet must not cost a fresh allocation and a copy for every frame.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylesdk.gpu.device import Device

_IDLE = 3  # buffers that wait for the next frame; more are freed


class Pool:
    """Buffers of one size, each lent to an owner, and back when the owner is garbage.

    Args:
        device: frees them.
        make: a new buffer, from ``Device.lendable`` or ``Device.lendable_memory``.
        most: buffers that may be lent at a time; page-locked memory is taken from the whole machine.
    """

    def __init__(self, device: Device, make: Callable[[], Any], most: int) -> None:
        self._device, self._make, self._most = device, make, most
        self._idle: list[Any] = []
        self._lent = 0
        self._closed = False
        self._lock = threading.RLock()  # the garbage collector may come by inside

    def take(self) -> Any | None:
        """A buffer for ``lend`` or ``give_back``; None where too many are lent already.

        Raises:
            DeviceError: out of memory.
        """
        with self._lock:
            if self._lent >= self._most:
                return None
            buffer = self._idle.pop() if self._idle else self._make()
            self._lent += 1
            return buffer

    def lend(self, owner: object, buffer: Any) -> None:
        """Give ``buffer`` back when ``owner`` is garbage."""
        # At the interpreter's end the driver frees everything anyway, and may be gone before us.
        weakref.finalize(owner, self.give_back, buffer).atexit = False

    def give_back(self, buffer: Any) -> None:
        """What ``take`` gave is free again."""
        with self._lock:
            self._lent -= 1
            if not self._closed and len(self._idle) < _IDLE:
                self._idle.append(buffer)
                return
        self._device.free(buffer)

    def close(self) -> None:
        """Free what is not lent; what is lent stays its owner's, and is freed after it."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for buffer in idle:
            self._device.free(buffer)


class _Owner:
    """What numpy takes an array from, and keeps alive as long as the array and all its views."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.__array_interface__ = array.__array_interface__


def lent_array(pool: Pool, buffer: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The first bytes of a page-locked ``buffer`` of ``pool`` as an array of ``shape``, the caller's to keep."""
    owner = _Owner(buffer[: int(np.prod(shape))].reshape(shape))
    pool.lend(owner, buffer)
    return np.asarray(owner)
