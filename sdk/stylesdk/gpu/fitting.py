"""Frames of another size than the engine's: fitted into its canvas and back on the GPU, instead of by OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylesdk.frames import Fit, Frame
from stylesdk.gpu.device import Device
from stylesdk.gpu.kernels import Kernels


class Fitting:
    """Room for one frame as the camera gave it, on its way in and out. It grows with the frames.

    Args:
        device: whose context must be current for everything here.
        kernels: of that device.
    """

    def __init__(self, device: Device, kernels: Kernels) -> None:
        self._device, self._kernels = device, kernels
        self._room: list[Any] = []  # page-locked array, device memory for the way in, and for the way out
        self._count = 0

    @property
    def result(self) -> int:
        """Address of what ``restore`` wrote: BGR uint8 of ``fit.source``."""
        return int(self._room[2])

    def upload(self, frame: Frame) -> None:
        """Queue the way in of a BGR uint8 (H, W, 3) frame."""
        if frame.size > self._count:
            self.close()
            # One by one, so that what is there is freed when the next is refused.
            self._room.append(self._device.lendable((frame.size,), np.uint8))
            self._room.append(self._device.lendable_memory(frame.size))
            self._room.append(self._device.lendable_memory(frame.size))
            self._count = frame.size
        host: NDArray[np.uint8] = self._room[0][: frame.size]
        host[:] = frame.reshape(-1)
        self._device.upload(int(self._room[1]), host)

    def fit(self, canvas: int, fit: Fit) -> None:
        """Queue the way from the uploaded frame into the canvas at address ``canvas``."""
        self._device.on_compute(lambda stream: self._kernels.fit(int(self._room[1]), canvas, fit, stream))

    def restore(self, canvas: int, fit: Fit) -> None:
        """Queue the way from the styled canvas to ``result``."""
        self._device.on_compute(lambda stream: self._kernels.restore(canvas, self.result, fit, stream))

    def copies(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """What queues the room's way in, and its result's way out, again."""
        host, source, result = self._room
        return lambda: self._device.upload(int(source), host), lambda: self._device.download(host, int(result))

    def close(self) -> None:
        """Free the room. May be called twice; frames may follow."""
        room, self._room, self._count = self._room, [], 0
        for buffer in room:
            self._device.free(buffer)
