"""Stylizer: open a model, run frames, close."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import overload

import numpy as np

from stylesdk.backends import Backend, GpuBackend, QueueingBackend, open_backend
from stylesdk.errors import ClosedError, FrameError
from stylesdk.frames import Frame, finished, prepared
from stylesdk.gpu.gpu_frame import GpuFrame, OnGpu, is_on_gpu
from stylesdk.latency import Latency
from stylesdk.manifest import Manifest
from stylesdk.mix import Mix, Weights, split_style, weights_from_style
from stylesdk.stream import overlapped
from stylesdk.styles import DEFAULT, resolve
from stylesdk.tiles import infer_in_tiles


class Stylizer:
    """A style, ready to run on frames.

        with stylesdk.Stylizer("starry_night") as stylizer:
            out = stylizer.run(frame)

    Args:
        model: path of an ONNX file or TensorRT plan, or the name of a bundled style. Of a model of several
            styles, ``MODEL:NAME`` or ``MODEL:A=0.7,B=0.3`` chooses what ``run`` uses when it is told none;
            without, that is the first.
        device: ``auto``, ``cpu`` or ``cuda``. A device that cannot be had is an error, never a silent CPU.
        threads: CPU threads, None for every usable core.
        runtime: of ONNX files, ``onnxruntime``, ``openvino``, ``tensorrt``, or ``onnxruntime-tensorrt``
            (onnxruntime-gpu's TensorRT provider); None takes the fastest that is installed. On a GPU that is
            TensorRT, whose plan is found or built while onnxruntime draws.
        backend: an open backend to use instead of opening ``model``, for tests and for runtimes of one's own;
            the Stylizer closes it.

    Raises:
        ModelFileError: missing, truncated, damaged or foreign model file.
        EngineMismatchError: a plan for another GPU or TensorRT.
        DeviceError: ``device`` cannot be had.
        MissingExtraError: the runtime is not installed; the message has the pip line.
        StyleError: the style after the colon is not one of the model's, or its weights do not mix.

    One Stylizer belongs to one thread at a time; several Stylizers may run in several threads.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT,
        *,
        device: str = "auto",
        threads: int | None = None,
        runtime: str | None = None,
        backend: Backend | None = None,
    ) -> None:
        file, mix = split_style(os.fspath(model))
        opened = backend or open_backend(resolve(file), device, threads, runtime)
        self._backend: Backend | None = opened
        self._name, self._manifest = opened.name, opened.manifest
        self._latency = Latency()
        try:
            first: Weights = np.eye(1, len(self.styles), dtype=np.float32)[0]
            self._default = weights_from_style(mix, self.styles) if mix else first
        except BaseException:
            self.close()
            raise

    @property
    def backend(self) -> str:
        """What really runs, such as ``onnxruntime 1.23 (CPU)``; it may change from one frame to the next."""
        return self._name if self._backend is None else self._backend.name

    @property
    def manifest(self) -> Manifest | None:
        """What the model promises; None for a plan without its sidecar."""
        return self._manifest

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the model's styles; none for a plan without its sidecar."""
        return self._manifest.styles if self._manifest else ()

    @property
    def default_style(self) -> Mix:
        """What ``run`` uses when it is told no style: name -> weight, with sum 1."""
        return {name: weight for name, weight in zip(self.styles, self._default.tolist(), strict=True) if weight}

    @property
    def latency(self) -> Latency:
        """Percentiles of preprocess, inference, postprocess and total over the last 1,000 frames."""
        return self._latency

    @overload
    def run(
        self, frame: Frame, strength: float = ..., style: str | Mix | None = ..., *, keep_color: bool = ...
    ) -> Frame: ...

    @overload
    def run(self, frame: OnGpu, strength: float = ..., style: str | Mix | None = ...) -> GpuFrame: ...

    def run(
        self,
        frame: Frame | OnGpu,
        strength: float = 1.0,
        style: str | Mix | None = None,
        *,
        keep_color: bool = False,
    ) -> Frame | GpuFrame:
        """Style one frame.

        Args:
            frame: BGR uint8 (H, W, 3), any H and W; it is not changed. One larger than 2560x1440 is styled in
                tiles where the model allows it, with the same result. With a TensorRT plan it may be on the GPU, in
                a size that the plan takes: a CUDA tensor of torch, CuPy, … (``__dlpack__`` or
                ``__cuda_array_interface__``); then the result is there too, and nothing is copied.
            strength: 0 = the photo, 1 = the full style.
            style: one of ``styles``, or a mix of several, name -> weight, weights of 0 or more in any scale.
                None is what the constructor chose. Another style costs nothing: it is an input, not a reload.
            keep_color: the styled luma with the photo's chroma; of frames in host memory.

        Returns:
            BGR uint8 (H, W, 3), the same size, the caller's to keep: a numpy array, or a ``GpuFrame`` that
            ``torch.from_dlpack`` and others share.

        Raises:
            FrameError: wrong dtype, rank, channels, an empty frame, or a strength outside 0-1; on the GPU also a
                size that the plan does not take, or a model that is no plan.
            StyleError: a style that is not the model's, or weights that do not mix.
            ClosedError: after ``close``.
        """
        backend, weights = self._opened(), self._weights(strength, style)
        with self._latency.stage("total"):
            if is_on_gpu(frame):
                return self._run_on_gpu(backend, frame, strength, weights, keep_color)
            with self._latency.stage("preprocess"):
                photo, fit, canvas = prepared(frame, backend.canvas)
            with self._latency.stage("inference"):
                styled = infer_in_tiles(backend, canvas, strength, weights)
            with self._latency.stage("postprocess"):
                return finished(styled, photo, fit, keep_color)

    def _opened(self) -> Backend:
        if self._backend is None:
            raise ClosedError("run() on a closed Stylizer", do="open a new one")
        return self._backend

    def _weights(self, strength: float, style: str | Mix | None) -> Weights | None:
        """What the backend takes as style."""
        if not 0 <= strength <= 1:
            raise FrameError(f"strength {strength}", expected="0 to 1")
        weights = self._default if style is None else weights_from_style(style, self.styles)
        return weights if len(weights) > 1 else None

    def _run_on_gpu(
        self, backend: Backend, frame: object, strength: float, weights: Weights | None, keep_color: bool
    ) -> GpuFrame:
        if keep_color or not isinstance(backend, GpuBackend):
            raise FrameError(
                f"a frame on the GPU, for {'keep_color' if keep_color else backend.name}",
                expected="a numpy array, or a TensorRT plan without keep_color",
                do="copy the frame to the host: frame.cpu().numpy()",
            )
        with self._latency.stage("inference"):
            return backend.infer_on_gpu(frame, strength, weights)

    def stream(
        self,
        frames: Iterable[Frame],
        strength: float = 1.0,
        style: str | Mix | None = None,
        *,
        keep_color: bool = False,
    ) -> Iterator[Frame]:
        """Style every frame of ``frames``, in order; arguments as in ``run``.

        On a TensorRT plan a frame travels to and from the GPU while another is computed: more frames a second than
        ``run``, each of them one frame later, as the next one is taken from ``frames`` first. Elsewhere the
        same as ``run``, one at a time as they are asked for.
        """
        backend = self._opened()
        if isinstance(backend, QueueingBackend):
            look = (strength, self._weights(strength, style), keep_color)
            yield from overlapped(backend, frames, look, self._latency, self._opened)
        else:
            for frame in frames:
                yield self.run(frame, strength, style, keep_color=keep_color)

    def close(self) -> None:
        """Free the runtime. May be called twice."""
        backend, self._backend = self._backend, None
        if backend is not None:
            self._name = backend.name
            backend.close()

    def __enter__(self) -> Stylizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._backend is None else self.backend
        return f"Stylizer({state})"
