"""An ONNX model on TensorRT, of which nobody has to think: plans are found, built and checked behind the picture."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from stylesdk.backends import Backend, GpuBackend, QueueingBackend
from stylesdk.backends.tensorrt import TensorRTBackend
from stylesdk.backends.tensorrt_engine import import_flavour
from stylesdk.engines.build import Progress
from stylesdk.engines.cache import open_kept, plan_path, private_cache_folder
from stylesdk.engines.key import Size, key_from_onnx
from stylesdk.engines.machine import best_flavour, why_not
from stylesdk.engines.search import Model, PlanSearch
from stylesdk.errors import ClosedError, DeviceError, EngineMismatchError, FrameError, ModelFileError, StyleSDKError
from stylesdk.frames import Frame
from stylesdk.gpu.gpu_frame import GpuFrame, size_on_gpu
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.mix import Weights
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.tiles import infer_in_tiles

_PLANS_KEPT = 2  # open at once; each has its share of the GPU's memory


Ticket = tuple[QueueingBackend | None, Any]  # a plan and its own ticket, or no plan and the styled frame


class EngineBackend:
    """onnxruntime at once, and TensorRT as soon as there is a plan for the frames' size.

    A kept plan is opened when the first frame of its size comes. Where there is none, one is built by a child
    process, and compared with the ONNX file; meanwhile onnxruntime draws, on CUDA where it can, else on the CPU,
    and ``name`` says so. The change comes between two frames. With device ``auto`` a size has to come twice in a
    row before a plan is asked for: a single picture is not worth a build.

    Where no plan can be had, ``canvas`` raises why, once for each frame, if TensorRT was ``required`` or ``cuda`` was
    asked for and onnxruntime has only the CPU; otherwise it warns once, and onnxruntime goes on.

    Args:
        path: an ONNX file with a stylesdk manifest.
        device: ``auto`` or ``cuda``.
        threads: of the CPU, for onnxruntime; None for every usable core.
        required: TensorRT was asked for by name.
        progress: called on another thread with the name of a build's phase and the share of it that is done, 0-1.

    Raises:
        ModelFileError: a missing, damaged or foreign ONNX file.
        DeviceError: no GPU, something is missing that a plan needs, or an unsafe cache folder.
        MissingExtraError: onnxruntime or pycuda is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cuda",
        threads: int | None = None,
        required: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if device not in ("auto", "cuda"):
            raise DeviceError(f"device {device!r} with TensorRT", expected="auto or cuda", do="use device='cuda'")
        data = read_model_file(path)
        self._model = Model(path, data, manifest_from_onnx(data, str(path)))
        if reason := why_not():
            raise DeviceError(reason, expected="what TensorRT plans need", do="`stylesdk doctor` tells what is missing")
        flavour = best_flavour()
        self._key = key_from_onnx(data, self._model.manifest, flavour, import_flavour(flavour).__version__)
        self._folder = private_cache_folder()
        self._meanwhile, on_cuda = _open_onnxruntime(path, threads)
        self._must = required or (device == "cuda" and not on_cuda)
        self._patience = 1 if device == "cuda" else 2  # frames of a size before its plan is asked for
        self._progress = progress
        self._plans: OrderedDict[Size, TensorRTBackend] = OrderedDict()
        self._failed: dict[Size, Exception] = {}
        self._search: PlanSearch | None = None
        self._size, self._run = (0, 0), 0  # size of the last frame, and how many in a row had it
        self._news: list[str] = []  # to be told on the caller's thread, between two frames
        self._warned = False
        self.serving: Backend = self._meanwhile  #: what styles the frame that ``canvas`` was last asked for

    @property
    def name(self) -> str:
        """What styles now, such as ``onnxruntime 1.31.1 (CPU), while TensorRT builds``."""
        return f"{self.serving.name}, while TensorRT builds" if self._waiting else self.serving.name

    @property
    def manifest(self) -> Manifest | None:
        """Of the plan when it serves, else of the ONNX file."""
        return self.serving.manifest

    def canvas(self, size: Size) -> Size:
        self._run = self._run + 1 if size == self._size else 1
        self._size = size
        key = self._key.resized(size)
        self._take_result()
        if key.size not in self._plans and self._run >= self._patience and self._search is None:
            self._ask_for(key.size)
        self.serving = self._meanwhile
        if plan := self._plans.get(key.size):
            self._plans.move_to_end(key.size)
            self.serving = plan
        while self._news:
            warnings.warn(self._news.pop(0), stacklevel=4)  # the line that calls Stylizer.run
        if self.serving is self._meanwhile and self._must and key.size in self._failed:
            raise self._failed[key.size]
        return self.serving.canvas(size)

    def infer(self, frame: Frame, strength: float, style: Weights | None = None) -> Frame:
        if self._search is not None:
            self._search.show(frame)
        with self._watched(self.serving) as serving:
            return serving.infer(frame, strength, style)

    def submit(self, frame: Frame, strength: float, style: Weights | None = None) -> Ticket:
        if isinstance(self.serving, QueueingBackend):
            with self._watched(self.serving):
                return self.serving, self.serving.submit(frame, strength, style)
        return None, infer_in_tiles(self, frame, strength, style)

    def collect(self, ticket: Ticket) -> Frame:
        plan, under_way = ticket
        if plan is None:
            return np.asarray(under_way, dtype=np.uint8)
        with self._watched(plan):
            return plan.collect(under_way)

    def drop(self, ticket: Ticket) -> None:
        plan, under_way = ticket
        if plan is not None:
            plan.drop(under_way)

    def infer_on_gpu(self, frame: object, strength: float, style: Weights | None = None) -> GpuFrame:
        """As ``TensorRTBackend.infer_on_gpu``, from the moment on at which there is a plan; FrameError until then."""
        self.canvas(size_on_gpu(frame))
        if not isinstance(self.serving, GpuBackend):
            raise FrameError(
                f"a frame on the GPU, for {self.name}", expected="a numpy array until then", do="frame.cpu().numpy()"
            )
        with self._watched(self.serving):
            return self.serving.infer_on_gpu(frame, strength, style)

    @contextmanager
    def _watched(self, backend: Backend) -> Iterator[Backend]:
        """A plan that fails in the body is not used again: it may have closed itself, for want of memory."""
        try:
            yield backend
        except (DeviceError, ClosedError) as error:
            if backend is not self._meanwhile:
                self._drop_plan(backend, error)
            raise

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the plan that is on its way, if one is; the next frame is its. False after ``timeout`` seconds."""
        return self._search is None or self._search.wait(timeout)

    def close(self) -> None:
        if self._search is not None:
            self._search.cancel()
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        self._meanwhile.close()

    @property
    def _waiting(self) -> bool:
        return self._search is not None and self.serving is self._meanwhile

    def _ask_for(self, size: Size) -> None:
        """Open the kept plan of ``size``, or begin to build it."""
        if size in self._failed:
            return
        key = self._key.resized(size)
        path = plan_path(self._folder, self._model.path, key)
        kept = None
        try:
            kept = open_kept(path, key)
        except (EngineMismatchError, ModelFileError) as error:
            self._news.append(f"{str(error).splitlines()[0]}\nThe plan is built again.")
        except StyleSDKError as error:
            self._fail(size, error)
            return
        if kept is None:
            self._search = PlanSearch(self._model, path, key, self._progress)
        else:
            self._keep(size, kept)

    def _take_result(self) -> None:
        if self._search is None or not self._search.done:
            return
        search, self._search = self._search, None
        try:
            self._keep(search.size, search.result())
        except Exception as error:  # noqa: BLE001  # the frame's own error is told apart from the plan's in ``canvas``
            self._fail(search.size, error)

    def _keep(self, size: Size, plan: TensorRTBackend) -> None:
        self._plans[size] = plan
        if len(self._plans) > _PLANS_KEPT:
            self._plans.popitem(last=False)[1].close()

    def _fail(self, size: Size, error: Exception) -> None:
        self._failed[size] = error
        if not self._must and not self._warned:
            self._warned = True
            self._news.append(f"{error}\nNo TensorRT plan: {self._meanwhile.name} goes on.")

    def _drop_plan(self, failed: Backend, error: StyleSDKError) -> None:
        for size in [size for size, plan in self._plans.items() if plan is failed]:
            with suppress(DeviceError):
                self._plans.pop(size).close()
            self._fail(size, error)


def _open_onnxruntime(path: Path, threads: int | None) -> tuple[Backend, bool]:
    """onnxruntime, and whether it is on CUDA."""
    from stylesdk.backends.onnxruntime import OnnxRuntimeBackend

    try:
        return OnnxRuntimeBackend(path, device="cuda", threads=threads), True
    except DeviceError:
        return OnnxRuntimeBackend(path, device="cpu", threads=threads), False
