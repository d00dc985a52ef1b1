"""onnxruntime on a GPU: a session for each frame size.

A session for each size, not one with many graphs (``gpu_graph_id``): with the size fixed, the arithmetic on shapes
folds away, which would run on the CPU and forbid a CUDA graph; and onnxruntime frees a graph, and the memory that it
works in, only together with the session.
"""

from __future__ import annotations

import io
import re
import shutil
from collections import OrderedDict
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from stylesdk.backends import installed
from stylesdk.backends.onnxruntime_options import (
    CUDA,
    TENSORRT,
    VARIANTS,
    Variant,
    cuda_options,
    engine_cache,
    tensorrt_options,
)
from stylesdk.backends.onnxruntime_sized import Feeds, SizedSession, gate
from stylesdk.errors import DeviceError
from stylesdk.frames import Frame
from stylesdk.gpu import cuda_usable

_SIZES_KEPT = 2  # a camera's and a still's, say; each holds its own memory on the GPU
_MEMORY = re.compile(r"out of memory|failed to allocate|alloc_failed|smaller than requested", re.IGNORECASE)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of onnxruntime or of the device layer is for want of memory."""
    return bool(_MEMORY.search(str(error)))


class GpuSessions:
    """A model on the GPU.

    Args:
        ort: the module ``onnxruntime``, with the provider.
        data: an ONNX file in the frame contract.
        provider: ``CUDAExecutionProvider`` or ``TensorrtExecutionProvider``.
        threads: CPU threads of a session, None for one: there is next to nothing for more to do.
        half: whether the graph computes in fp16.

    Raises:
        DeviceError: no GPU, or onnxruntime fell back to another provider.
        Exception: onnxruntime's own, where the provider or the file is at fault.
    """

    def __init__(self, ort: Any, data: bytes, provider: str, *, threads: int | None, half: bool) -> None:
        if reason := cuda_usable():
            raise DeviceError(
                reason,
                expected="an NVIDIA GPU and its driver",
                do="update the driver (nvidia-smi must list the GPU), or use device='cpu'",
            )
        self._ort, self._data, self._provider = ort, data, provider
        self._threads, self._half = threads or 1, half
        self._complaints = _load_libraries(ort, provider)
        self._sizes: OrderedDict[tuple[int, ...], SizedSession] = OrderedDict()
        self._dimensions: list[Any] = []
        self._variants = VARIANTS[provider]
        # Opened once with the sizes free: tells at once whether the provider and the file are right.
        with gate.shared():
            self.inputs = self._open_free()
        self._dimensions = self.inputs.get("frame", [])[1:3]

    @property
    def cuda_graph(self) -> bool:
        """Whether the latest frame was replayed from a CUDA graph."""
        return bool(self._sizes) and next(reversed(self._sizes.values())).graph

    def run(self, feeds: Feeds) -> Frame:
        """The graph's ``styled`` as BGR uint8 (H, W, 3), the caller's to keep."""
        shape = feeds["frame"].shape
        try:
            if shape not in self._sizes:
                return self._run_first(feeds)
            self._sizes.move_to_end(shape)
            return self._sizes[shape].run(feeds)
        except BaseException as error:
            self._sizes.pop(shape, None)  # has closed itself
            if out_of_memory(error):
                self.close()
            raise

    def run_in_place(self, feeds: Feeds, count: int) -> list[float]:
        """Milliseconds of ``count`` runs on the latest frame, which was ``feeds``, without copies."""
        return self._sizes[feeds["frame"].shape].run_in_place(count)

    def close(self) -> None:
        """Free every size. A next frame would start afresh."""
        while self._sizes:
            self._sizes.popitem()[1].close()

    def _open_free(self) -> dict[str, Any]:
        """The graph's inputs, name -> shape, from a session in the first layout that the provider does not refuse."""
        while True:
            variant = self._variants[0]._replace(graph=False)
            others = [other for other in self._variants if other.nhwc != variant.nhwc]
            try:
                session = self._open_session(None, variant, None)
                return {tensor.name: tensor.shape for tensor in session.get_inputs()}
            except Exception as error:
                if out_of_memory(error) or not others:
                    raise
                self._variants = others

    def _run_first(self, feeds: Feeds) -> Frame:
        """Run a frame of a new size, in the first variant that does not refuse it."""
        shape = feeds["frame"].shape
        while len(self._sizes) >= _SIZES_KEPT:
            self._sizes.popitem(last=False)[1].close()
        variants = list(self._variants)
        while True:
            try:
                sized, styled = self._try(variants[0], feeds)
            except Exception as error:
                if out_of_memory(error) or len(variants) == 1:
                    raise
                variants.pop(0)
            else:
                self._sizes[shape] = sized
                self._variants = variants  # asking again would cost every new size its time
                return styled

    def _try(self, variant: Variant, feeds: Feeds) -> tuple[SizedSession, Frame]:
        height, width = feeds["frame"].shape[1:3]
        cache = self._engines((height, width))

        def open_session(stream: int | None) -> Any:
            return self._open_session((height, width), variant, stream, cache)

        try:
            sized = SizedSession(self._ort, open_session, feeds, graph=variant.graph)
            return sized, sized.run(feeds)
        except Exception as error:
            if cache and not out_of_memory(error):
                shutil.rmtree(cache, ignore_errors=True)  # a damaged engine must not break every start
            raise

    def _open_session(
        self, size: tuple[int, int] | None, variant: Variant, stream: int | None, cache: Path | None = None
    ) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        for name, length in zip(self._dimensions, size or (), strict=False):
            if isinstance(name, str):
                options.add_free_dimension_override_by_name(name, length)
        providers: list[Any] = [(CUDA, cuda_options(variant, stream))]
        if self._provider == TENSORRT:
            plain = (CUDA, cuda_options(variant._replace(graph=False), stream))
            providers = [(TENSORRT, tensorrt_options(variant, stream, cache, self._half)), plain]
        # Without the last argument, onnxruntime prints and goes on with the CPU, here and in later runs.
        session = self._ort.InferenceSession(self._data, options, providers=providers, enable_fallback=0)
        self._check_provider(session)
        return session

    def _check_provider(self, session: Any) -> None:
        """Raise DeviceError where a provider that cannot load only logs, and leaves the graph to another."""
        used = session.get_providers()[0]
        takers = [used]
        # TensorRT may also load and then take nothing. Newer onnxruntimes tell who took what.
        if self._provider == TENSORRT == used and hasattr(session, "get_provider_graph_assignment_info"):
            takers = sorted({part.ep_name for part in session.get_provider_graph_assignment_info()})
        if self._provider in takers:
            return
        raise DeviceError(
            f"onnxruntime fell back to {', '.join(takers)}{self._complaints}",
            expected=self._provider,
            do="python -m pip install 'onnxruntime-gpu[cuda,cudnn]'; device='cpu' runs on the CPU"
            if self._provider == CUDA
            else "python -m pip install 'tensorrt-cu13==10.*'; runtime='onnxruntime' runs without",
        )

    def _engines(self, size: tuple[int, int]) -> Path | None:
        """Where TensorRT keeps its engines of this size; None for a provider that has none."""
        if self._provider != TENSORRT:
            return None
        found = installed("tensorrt") or installed("tensorrt-cu13") or installed("tensorrt-cu12")
        return engine_cache(self._data, f"{self._ort.__version__}-{found or 'system'}", size)


def _load_libraries(ort: Any, provider: str) -> str:
    """Bring the pip packages' CUDA libraries into the process; what onnxruntime says of those that it misses."""
    said = io.StringIO()
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(said), suppress(OSError, RuntimeError):
            ort.preload_dlls()
    if provider == TENSORRT:
        with suppress(ImportError, OSError):
            import tensorrt  # noqa: F401  # brings TensorRT's
    lines = said.getvalue().split("\n")
    return "".join(f" ({line})" for line in lines if line.startswith("Failed"))
