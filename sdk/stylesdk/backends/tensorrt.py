"""TensorRT: plans of TensorRT 10 and 11 and of TensorRT for RTX, on one code path."""

from __future__ import annotations

import math
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.backends.plan_file import COPY_AGAIN, check_gpu, check_version, installed_version, read_plan, rebuild_line
from stylesdk.backends.tensorrt_engine import (
    Execution,
    Lane,
    RuntimeCache,
    checked_style_length,
    collecting_logger,
    frame_sizes,
    import_flavour,
)
from stylesdk.errors import ClosedError, DeviceError, EngineMismatchError, FrameError, ModelFileError
from stylesdk.frames import Fit, Frame, fit_for
from stylesdk.gpu.device import open_device
from stylesdk.gpu.driver import cuda_usable
from stylesdk.gpu.gpu_frame import GpuFrame, place_of
from stylesdk.gpu.kernels import Kernels
from stylesdk.gpu.pool import Pool, lent_array
from stylesdk.gpu.slot import Slot
from stylesdk.mix import Weights

_ALIGNED = 256  # bytes, of the addresses that TensorRT takes; a slice of a tensor may lie anywhere
_MOST_RESULTS = 8  # in page-locked memory that callers hold; beyond, results are copied into ordinary memory
_ON_CPU = "run an .onnx model on the CPU, or open the plan on a machine whose nvidia-smi lists the GPU"


class TensorRTBackend:
    """One TensorRT engine, with buffers for its largest frame.

    Args:
        path: a plan in the frame contract, with its sidecar ``PATH.json`` beside it.
        device: ``auto`` or ``cuda``; a plan runs on nothing else.

    Raises:
        ModelFileError: no plan, truncated, damaged, or not in the frame contract.
        EngineMismatchError: built for another TensorRT or GPU.
        MissingExtraError: TensorRT or pycuda is not installed.
        DeviceError: no GPU, or not enough memory on it.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        data, self.manifest, flavour = read_plan(path)
        if device not in ("auto", "cuda"):
            raise DeviceError(f"device {device!r}", expected="auto or cuda, for a TensorRT plan", do=_ON_CPU)
        check_version(path, self.manifest, installed_version(flavour))
        if reason := cuda_usable():
            raise DeviceError(reason, expected="an NVIDIA GPU, for a TensorRT plan", do=_ON_CPU)
        trt = import_flavour(flavour)
        check_version(path, self.manifest, trt.__version__)
        self._engine: Any = None
        self._runtime: Any = None
        self._lanes: list[Lane] = []
        self._free: deque[Lane] = deque()
        self._on_gpu: Lane | None = None
        self._cache = RuntimeCache(path)
        self._device = open_device()
        self._results = Pool(self._device, _MOST_RESULTS)
        self._kernels: Kernels | None = None
        self.name = f"{flavour} {trt.__version__} ({self._device.name})"
        self._trt = trt
        # TensorRT for RTX captures by itself; for the others the slots do, until a capture fails.
        self.cuda_graph = True
        self._captures = flavour != "tensorrt_rtx"
        try:
            check_gpu(path, self.manifest, self._device)
            self._kernels = self._device.kernels()
            self._open_engine(path, data)
            self._check_result(path)
        except BaseException:
            self.close()
            raise

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        # With our kernels the GPU fits frames of any size by itself.
        return size if self._kernels else self._taken(size)

    def _taken(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size nearest to ``size`` that the engine takes."""
        height, width = (min(max(s, low), high) for s, low, high in zip(size, self._min, self._max, strict=True))
        return height, width

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        return self.collect(self.submit(frame, strength, style))

    def submit(self, frame: Frame, strength: float, style: Weights | None = None) -> Lane:
        """Queue a frame, as ``infer`` takes it, for ``collect``."""
        size = (frame.shape[0], frame.shape[1])
        fit = fit_for(size, self._taken(size))
        with self._device.current():
            lane = self._free.popleft() if self._free else self._lane()
            try:
                lane.slot.upload(frame, fit, strength, style)
                self._compute(lane, fit.canvas)
            except BaseException:
                self._free.append(lane)
                with suppress(ClosedError, DeviceError):  # the first error is the one to tell
                    self._device.synchronize()
                raise
            return lane

    def collect(self, lane: Lane) -> Frame:
        """Wait for a queued frame, once; the result is the caller's to keep."""
        shape, lent = lane.slot.shape, None
        try:
            with self._device.current():
                lent = self._results.take(math.prod(shape))
                target = np.empty(shape, np.uint8) if lent is None else lent_array(lent, shape)
                lane.slot.download(target)
            return target
        finally:
            self._free.append(lane)

    def drop(self, lane: Lane) -> None:
        with suppress(ClosedError, DeviceError):
            self._device.synchronize()
            self._free.append(lane)

    def infer_on_gpu(self, frame: object, strength: float, style: Weights | None = None) -> GpuFrame:
        """Style a frame that is on the GPU (see ``gpu_frame``), without a copy; the result is there too.

        Raises:
            FrameError: not BGR uint8 (H, W, 3), C-contiguous, or of a size that the plan does not take.
        """
        device = self._device
        with device.current():
            place = place_of(frame, device.compute, device.index)
            size = (place.shape[0], place.shape[1])
            fit = fit_for(size, self._taken(size))
            if fit.source != fit.canvas and not self._kernels:
                raise FrameError(
                    f"a frame of {size[1]}x{size[0]} on the GPU",
                    expected=f"from {self._min[1]}x{self._min[0]} to {self._max[1]}x{self._max[0]}",
                    do="resize it on the GPU, give it as a numpy array, or build the kernels: cmake --preset default",
                )
            # Addresses are others every time: nothing to capture.
            self._on_gpu = self._on_gpu or self._lane(graphs=False)
            memory = device.lendable_memory(math.prod(place.shape))
            try:
                self._infer_in_place(self._on_gpu, place.address, int(memory), fit, (strength, style))
                device.synchronize()
            except BaseException:
                device.free(memory)
                raise
        result = GpuFrame(int(memory), place.shape, device.index)
        weakref.finalize(result, device.free, memory).atexit = False
        return result

    def _infer_in_place(self, lane: Lane, source: int, out: int, fit: Fit, look: tuple[float, Weights | None]) -> None:
        """Queue the way from address ``source`` to address ``out``."""
        slot, execution, kernels = lane.slot, lane.execution, self._kernels
        slot.set(*look)
        if fit.source == fit.canvas or kernels is None:
            if source % _ALIGNED:
                self._device.duplicate(slot.address["frame"], source, 3 * math.prod(fit.source))
                source = slot.address["frame"]
            execution.bind(fit.canvas, slot.address | {"frame": source, "styled": out})
            execution.check(execution.enqueue())
            return
        execution.bind(fit.canvas, slot.address)
        self._device.on_compute(lambda stream: kernels.fit(source, slot.address["frame"], fit, stream))
        execution.check(execution.enqueue())
        self._device.on_compute(lambda stream: kernels.restore(slot.address["styled"], out, fit, stream))

    def run_in_place(self, count: int) -> list[float]:
        """Milliseconds of GPU time of each of ``count`` inferences of the last frame, without copies; [] before one."""
        lane = self._free[-1]
        canvas = lane.slot.fit.canvas if lane.slot.fit else None
        return self._device.timed(lambda: self._compute(lane, canvas), count) if canvas else []

    def copy_in_place(self, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds of ``count`` copies of the last frame to the GPU, and of as many results from it."""
        slot = self._free[-1].slot
        if slot.fit is None:
            return [], []
        way_in, way_out = slot.copies()
        return self._device.timed(way_in, count, copies=True), self._device.timed(way_out, count, copies=True)

    def close(self) -> None:
        with suppress(ClosedError, DeviceError):
            self._device.synchronize()
        # A device that ran out of memory is closed already: what lives on it must be dropped all the same.
        with self._device.cleanup():
            for lane in self._lanes:
                lane.slot.close()
            if self._lanes:
                self._cache.store()
            # In this order: each lives on the next one's memory.
            self._on_gpu = None
            self._free.clear()
            self._lanes.clear()
            self._cache.forget()
            self._kernels = None
            self._engine = None
            self._runtime = None
        self._results.close()
        self._device.close()

    def _open_engine(self, path: Path, data: bytes) -> None:
        self._logger = collecting_logger(self._trt)
        with self._device.current():
            try:
                self._runtime = self._trt.Runtime(self._logger)
            except TypeError as error:  # what the bindings make of a null pointer
                raise DeviceError(f"TensorRT does not start: {self._logger.last_error()}") from error
            self._engine = self._runtime.deserialize_cuda_engine(data)
            if self._engine is None and self._logger.told("memory"):
                raise DeviceError(
                    f"no memory for {path} on {self.name}: {self._logger.last_error()}",
                    expected="memory for the engine",
                    do="close other programs on the GPU, or export a smaller --size",
                )
            if self._engine is None:
                raise EngineMismatchError(
                    f"{path}, which {self.name} refuses: {self._logger.last_error()}",
                    expected="a plan built by this TensorRT for this GPU",
                    do=rebuild_line(self.manifest),
                )
            self._style_length = checked_style_length(path, self._engine, self.manifest)
            self._min, self._max = frame_sizes(self._engine)
            self._bytes = self._max[0] * self._max[1] * 3

    def _check_result(self, path: Path) -> None:
        """The first lane; a result larger than the frame would be written beyond the end of its buffer."""
        with self._device.current():
            lane = self._lane()
            self._free.append(lane)
            lane.execution.bind(self._max, lane.slot.address)
            styled = lane.execution.result_shape()
        if styled != (1, *self._max, 3):
            raise ModelFileError(
                f"{path}, whose result is {styled} for a frame of (1, {self._max[0]}, {self._max[1]}, 3)",
                expected="a result of the frame's size",
                do=COPY_AGAIN,
            )

    def _lane(self, graphs: bool = True) -> Lane:
        context = self._cache.context(self._trt, self._engine, graphs)
        execution = Execution(context, self._device.compute, self.name, self._logger)
        lane = Lane(Slot(self._device, self._bytes, self._style_length, self._kernels), execution)
        self._lanes.append(lane)
        return lane

    def _compute(self, lane: Lane, size: tuple[int, int]) -> None:
        """Queue the inference of what lies in the lane's slot."""
        lane.execution.bind(size, lane.slot.address)
        lane.execution.check(lane.slot.compute(size, lane.execution.enqueue, self._captures))
        if lane.slot.refuses_capture:
            self._captures = self.cuda_graph = False
