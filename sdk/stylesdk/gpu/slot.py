"""What one frame needs on its way through the GPU: page-locked and device memory, events, its CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stylesdk.frames import Fit, Frame
from stylesdk.gpu.device import Device
from stylesdk.gpu.fitting import Fitting
from stylesdk.gpu.graph import Graph
from stylesdk.gpu.kernels import Kernels

Size = tuple[int, int]  # height, width


class Slot:
    """Room for one frame under way. With two of them, one frame travels while the other is computed.

    Args:
        device: whose context must be current for everything here.
        count: bytes of the largest frame.
        style: numbers in the engine's input ``style``; 0 where it has none.
        kernels: to fit frames of other sizes with; None where only fitting ones come.
    """

    def __init__(self, device: Device, count: int, style: int, kernels: Kernels | None) -> None:
        self._device = device
        self._fitting = Fitting(device, kernels) if kernels else None
        self.fit: Fit | None = None  # of the last frame
        self._frame = device.pinned((count,), np.uint8)
        settings = {"strength": 1} | ({"style": style} if style else {})
        self._settings = {name: device.pinned((length,), np.float32) for name, length in settings.items()}
        sizes = {"frame": count, "styled": count} | {name: array.nbytes for name, array in self._settings.items()}
        self.address = {name: device.allocate(size) for name, size in sizes.items()}
        self._known: tuple[float, bytes] | None = None  # the settings that are on the GPU already
        self._uploaded, self._computed, self._delivered = (device.event() for _ in range(3))
        self.shape = (0, 0, 3)
        self._ran: Size | None = None
        self._graph: Graph | None = None
        self.refuses_capture = False

    def upload(self, frame: Frame, fit: Fit, strength: float, style: NDArray[np.float32] | None) -> None:
        """Queue the way in of a BGR uint8 (H, W, 3) frame, to be fitted as ``fit`` says; computing waits for it."""
        self.shape, self.fit = (frame.shape[0], frame.shape[1], 3), fit
        if fitting := self._resizes():
            fitting.upload(frame)
        else:
            self._frame[: frame.size] = frame.reshape(-1)
            self._device.upload(self.address["frame"], self._frame[: frame.size])
        self.set(strength, style)

    def _resizes(self) -> Fitting | None:
        """What fits the last frame; None where it has the engine's size."""
        return self._fitting if self.fit and self.fit.source != self.fit.canvas else None

    def set(self, strength: float, style: NDArray[np.float32] | None) -> None:
        """Queue the way in of strength and style where they changed; computing waits for them, and for the frame."""
        wanted = (strength, b"" if style is None else style.tobytes())
        if wanted != self._known:
            self._settings["strength"][0] = strength
            if style is not None:
                self._settings["style"][:] = style
            for name, array in self._settings.items():
                self._device.upload(self.address[name], array)
            self._known = wanted
        self._device.compute_after_copies(self._uploaded)

    def compute(self, size: Size, enqueue: Callable[[], bool], captures: bool) -> bool:
        """Queue the inference: by CUDA graph from the second frame of a size on, where ``captures``.

        The first frame of a size lets the runtime allocate what it needs, which cannot be captured.
        Returns whether it is queued.
        """
        if size != self._ran:
            self._forget_graph()
        elif captures and self._graph is None:
            try:
                self._graph = Graph(self._device.compute, enqueue)
            except OSError:
                self.refuses_capture = True
        fitting = self._resizes()
        if fitting and self.fit:
            fitting.fit(self.address["frame"], self.fit)
        done = self._graph.launch() if self._graph else enqueue()
        self._ran = size
        if fitting and self.fit:
            fitting.restore(self.address["styled"], self.fit)
        self._device.record(self._computed)
        return done

    def download(self, target: NDArray[np.uint8]) -> None:
        """Wait for the result, in contiguous ``target``: page-locked, or ordinary memory, which is slower."""
        fitting = self._resizes()
        # Queued now and not with the inference: before it, the next frame's way in has found its place.
        self._device.copies_after(self._computed)
        self._device.download(target, fitting.result if fitting else self.address["styled"])
        self._device.finish_copies(self._delivered)

    def copies(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """What queues the last frame's way in, and its result's way out, again: for benchmarks."""
        fitting = self._resizes()
        if fitting:
            return fitting.copies()
        host = self._frame[: math.prod(self.shape)]
        return (
            lambda: self._device.upload(self.address["frame"], host),
            lambda: self._device.download(host, self.address["styled"]),
        )

    def _forget_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph:
            graph.close()

    def close(self) -> None:
        """Drop events and graph; the memory is the device's. The context must be current."""
        self._forget_graph()
        if self._fitting:
            self._fitting.close()
        self._fitting = None
        self._uploaded = self._computed = self._delivered = None
