"""Stylizer: open a model, run frames, close."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType

from stylesdk.backends import Backend, open_backend
from stylesdk.errors import ClosedError, FrameError
from stylesdk.frames import Frame, checked, fit_for, fitted, restored
from stylesdk.latency import Latency
from stylesdk.manifest import Manifest
from stylesdk.styles import DEFAULT, resolve


class Stylizer:
    """A style, ready to run on frames.

        with stylesdk.Stylizer("starry_night") as stylizer:
            out = stylizer.run(frame)

    Args:
        model: path of an ONNX file or TensorRT plan, or the name of a bundled style.
        device: ``auto``, ``cpu`` or ``cuda``. A device that cannot be had is an error, never a silent CPU.
        threads: CPU threads, None for every usable core.
        backend: an open backend to use instead of opening ``model``, for tests and for runtimes of one's own;
            the Stylizer closes it.

    Raises:
        ModelFileError: missing, truncated, damaged or foreign model file.
        EngineMismatchError: a plan for another GPU or TensorRT.
        DeviceError: ``device`` cannot be had.
        MissingExtraError: the runtime is not installed; the message has the pip line.

    One Stylizer belongs to one thread at a time; several Stylizers may run in several threads.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT,
        *,
        device: str = "auto",
        threads: int | None = None,
        backend: Backend | None = None,
    ) -> None:
        self._backend: Backend | None = backend or open_backend(resolve(model), device, threads)
        self._name = self._backend.name
        self._manifest = self._backend.manifest
        self._latency = Latency()

    @property
    def backend(self) -> str:
        """What really runs, such as ``onnxruntime 1.23 (CPU)``."""
        return self._name

    @property
    def manifest(self) -> Manifest | None:
        """What the model promises; None for a plan without its sidecar."""
        return self._manifest

    @property
    def latency(self) -> Latency:
        """Percentiles of preprocess, inference, postprocess and total over the last 1,000 frames."""
        return self._latency

    def run(self, frame: Frame, strength: float = 1.0) -> Frame:
        """Style one frame.

        Args:
            frame: BGR uint8 (H, W, 3), any H and W; it is not changed.
            strength: 0 = the photo, 1 = the full style.

        Returns:
            BGR uint8 (H, W, 3), the same size, the caller's to keep.

        Raises:
            FrameError: wrong dtype, rank, channels, an empty frame, or a strength outside 0-1.
            ClosedError: after ``close``.
        """
        if self._backend is None:
            raise ClosedError("run() on a closed Stylizer", do="open a new one")
        if not 0 <= strength <= 1:
            raise FrameError(f"strength {strength}", expected="0 to 1")
        with self._latency.stage("total"):
            with self._latency.stage("preprocess"):
                frame = checked(frame)
                size = (frame.shape[0], frame.shape[1])
                fit = fit_for(size, self._backend.canvas(size))
                canvas = fitted(frame, fit)
            with self._latency.stage("inference"):
                styled = self._backend.infer(canvas, strength)
            with self._latency.stage("postprocess"):
                return restored(styled, fit)

    def stream(self, frames: Iterable[Frame], strength: float = 1.0) -> Iterator[Frame]:
        """Style every frame of ``frames``, in order, one at a time as they are asked for."""
        for frame in frames:
            yield self.run(frame, strength)

    def close(self) -> None:
        """Free the runtime. May be called twice."""
        backend, self._backend = self._backend, None
        if backend is not None:
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
        state = "closed" if self._backend is None else self._name
        return f"Stylizer({state})"
