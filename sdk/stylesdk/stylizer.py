"""Stylizer: open a model, run frames, close."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from stylesdk.backends import Backend, GpuBackend, QueueingBackend, open_backend
from stylesdk.errors import ClosedError, FrameError
from stylesdk.frames import Frame, finished, prepared
from stylesdk.gpu.gpu_frame import GpuFrame, OnGpu, is_on_gpu
from stylesdk.latency import Latency
from stylesdk.manifest import Manifest
from stylesdk.mix import Mix, StyleCode, Weights, split_style
from stylesdk.palette import Palette, Style
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
            without, that is the first. Of a model with an encoder ``MODEL:PICTURE.jpg`` takes the style of a picture,
            and of one with a chooser ``MODEL:auto`` the one that suits each photo.
        device: ``auto``, ``cpu`` or ``cuda``. A device that cannot be had is an error, never a silent CPU.
        threads: CPU threads, None for every usable core.
        runtime: of ONNX files, ``onnxruntime``, ``openvino``, ``tensorrt``, or ``onnxruntime-tensorrt``
            (onnxruntime-gpu's TensorRT provider); None takes the fastest that is installed. On a GPU that is
            TensorRT, whose plan is found or built while onnxruntime draws.
        backend: an open backend to use instead of opening ``model``, for tests and for runtimes of one's own;
            the Stylizer closes it. Only the folder of ``model`` counts then: an encoder and a chooser are read there.

    Raises:
        ModelFileError: missing, truncated, damaged or foreign model file.
        EngineMismatchError: a plan for another GPU or TensorRT.
        DeviceError: ``device`` or ``runtime`` cannot be had, or ``threads`` below 1.
        MissingExtraError: the runtime is not installed; the message has the pip line.
        StyleError: the style after the colon is not one of the model's, its weights do not mix, or a picture that
            does not read or is for a model without an encoder.

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
        file, chosen = split_style(os.fspath(model))
        path = Path(file) if backend else resolve(file if isinstance(model, str) else Path(file))
        opened = backend or open_backend(path, device, threads, runtime)
        self._backend: Backend | None = opened
        self._name, self._manifest = opened.name, opened.manifest
        self._latency = Latency()
        self._palette = Palette(self._manifest, path.parent, threads)
        try:
            self._palette.choose_default(chosen)
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
        """What ``run`` uses when it is told no style: name -> weight, with sum 1; none for a picture's or ``auto``."""
        return dict(self._palette.default_mix)

    @property
    def latency(self) -> Latency:
        """Percentiles of preprocess, inference, postprocess and total over the last 1,000 frames.

        Encoding a style picture and choosing by the frame belong to preprocess.
        """
        return self._latency

    @overload
    def run(
        self, frame: Frame, strength: float = ..., style: Style | None = ..., *, keep_color: bool = ...
    ) -> Frame: ...

    @overload
    def run(self, frame: OnGpu, strength: float = ..., style: Style | None = ...) -> GpuFrame: ...

    def run(
        self,
        frame: Frame | OnGpu,
        strength: float = 1.0,
        style: Style | None = None,
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
                Of a model with an encoder also a style picture, BGR uint8 (H, W, 3), or its code, float32 (C,): a
                picture is encoded anew for every frame, a code from ``stylesdk.encode`` once. Of a model with
                a chooser also ``"auto"``, the style that suits this frame.
            keep_color: the styled luma with the photo's chroma; of frames in host memory.

        Returns:
            BGR uint8 (H, W, 3), the same size, the caller's to keep: a numpy array, or a ``GpuFrame`` that
            ``torch.from_dlpack`` and others share.

        Raises:
            FrameError: wrong dtype, rank, channels, an empty frame, or a strength outside 0-1; on the GPU also a
                size that the plan does not take, or a model that is no plan.
            StyleError: a style that is not the model's, weights that do not mix, a picture or ``"auto"`` for a model
                that has no encoder or chooser, or a code of another model.
            ModelFileError: the encoder or the chooser is not beside the model, or damaged.
            ClosedError: after ``close``.
        """
        backend = self._opened()
        with self._latency.stage("total"):
            if is_on_gpu(frame):
                weights = self._weights(strength, style, frame)
                return self._run_on_gpu(backend, frame, strength, weights, keep_color)
            with self._latency.stage("preprocess"):  # an encoder or a chooser takes its time
                weights = self._weights(strength, style, frame)
                photo, fit, canvas = prepared(frame, backend.canvas)
            with self._latency.stage("inference"):
                styled = infer_in_tiles(backend, canvas, strength, weights)
            with self._latency.stage("postprocess"):
                return finished(styled, photo, fit, keep_color)

    def _opened(self, call: str = "run") -> Backend:
        if self._backend is None:
            raise ClosedError(f"{call}() on a closed Stylizer", do="open a new one")
        return self._backend

    def _weights(self, strength: object, style: Style | None, photo: object) -> Weights | None:
        if not (isinstance(strength, float | int | np.floating) and 0 <= strength <= 1):
            raise FrameError(f"strength {strength!r}", expected="a number, 0 to 1")
        return self._palette.input(style, photo)

    def style_input(self, style: Style | None = None, photo: object = None) -> Weights | None:
        """What the graph gets as style: mixing weights (S,) or a code (C,), float32; None where it takes none.

        Arguments and errors as of ``run``; ``photo`` is the frame, which ``"auto"`` chooses by. The result is the
        caller's to change.
        """
        self._opened("style_input")
        found = self._palette.input(style, photo)
        return None if found is None else found.copy()

    @property
    def takes_codes(self) -> bool:
        """Whether a style is a code to this model, float32 (C,), and not mixing weights."""
        return self._palette.has_codes

    def choose(self, photo: Frame) -> Mix | StyleCode:
        """The style that ``"auto"`` is for a photo, for ``run`` on others: what suits a video's first frame, say.

        Args:
            photo: BGR uint8 (H, W, 3).

        Returns:
            A mix of ``styles``, name -> weight, or of a model with codes a code, float32 (C,).

        Raises:
            StyleError: the model has no chooser.
            ClosedError: after ``close``.
        """
        self._opened("choose")
        return self._palette.choose(photo)

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
        style: Style | None = None,
        *,
        keep_color: bool = False,
    ) -> Iterator[Frame]:
        """Style every frame of ``frames``, in order; arguments as in ``run``.

        On a TensorRT plan a frame travels to and from the GPU while another is computed: more frames a second than
        ``run``, each of them one frame later, as the next one is taken from ``frames`` first. Elsewhere the
        same as ``run``, one at a time as they are asked for. A style picture is encoded once, and ``"auto"`` is what
        suits the first frame.
        """
        backend = self._opened()
        held = self._palette.held(style, frames)
        if held is None:  # no frame
            return
        style, frames = held
        if isinstance(backend, QueueingBackend):
            look = (strength, self._weights(strength, style, None), keep_color)
            yield from overlapped(backend, frames, look, self._latency, self._opened)
        else:
            for frame in frames:
                yield self.run(frame, strength, style, keep_color=keep_color)

    def close(self) -> None:
        """Free the runtime, encoder and chooser too. May be called twice."""
        backend, self._backend = self._backend, None
        if backend is not None:
            self._name = backend.name
            self._palette.close()
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
