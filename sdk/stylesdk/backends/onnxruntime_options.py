"""What onnxruntime's GPU providers are told, and why."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from stylesdk.private_folder import private_folder

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


class Variant(NamedTuple):
    """A way to run a model: layout of its convolutions, and whether a CUDA graph replays it."""

    nhwc: bool
    graph: bool


# From the fastest to the plainest. What a model, a GPU or a cuDNN refuses, the next may do.
VARIANTS = {
    CUDA: [Variant(True, True), Variant(True, False), Variant(False, True), Variant(False, False)],
    TENSORRT: [Variant(False, True), Variant(False, False)],
}


def cuda_options(variant: Variant, stream: int | None) -> dict[str, str]:
    """Options of the CUDA provider; ``stream`` is the handle of the CUDA stream to work on, None for its own."""
    options = {
        # One arena for each frame size, which needs the same memory for every frame: no more than that.
        "arena_extend_strategy": "kSameAsRequested",
        # A new frame size must not stall the picture for long. EXHAUSTIVE tries every algorithm for every
        # convolution of every size, and what it chooses, and with it the last bit of a pixel, may differ between runs.
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "enable_cuda_graph": "1" if variant.graph else "0",
        # Tensor cores want the channels last.
        "prefer_nhwc": "1" if variant.nhwc else "0",
        # fp32 convolutions on tensor cores: a mantissa of 10 bits, as fp16 has, for a picture of 8. Without it a
        # fp32 file runs several times slower; who wants every bit of fp32 has the CPU.
        "use_tf32": "1",
    }
    return options | _on(stream)


def tensorrt_options(variant: Variant, stream: int | None, cache: Path | None, half: bool) -> dict[str, str]:
    """Options of the TensorRT provider; ``half`` for a graph in fp16, ``cache`` for its engines, None to keep none."""
    # This provider reads True and False, and not in every version 1 and 0.
    options = {
        "trt_cuda_graph_enable": str(variant.graph),
        # Never for a graph in fp32: precision is in the graph. For one in fp16, TensorRT 10 asks for the flag.
        "trt_fp16_enable": str(half),
        "trt_engine_cache_enable": str(cache is not None),
        "trt_timing_cache_enable": str(cache is not None),
    }
    if cache is not None:
        options |= {"trt_engine_cache_path": str(cache), "trt_timing_cache_path": str(cache)}
    return options | _on(stream)


def _on(stream: int | None) -> dict[str, str]:
    return {} if stream is None else {"user_compute_stream": str(stream)}


def engine_cache(data: bytes, versions: str, size: tuple[int, int]) -> Path:
    """The folder for the engines of the ONNX file ``data`` at (height, width) ``size``, made where it is missing.

    Each has its own: the provider's names of engines tell neither weights nor static sizes apart.

    Raises:
        DeviceError: the folder cannot be made, or others may write to it: an engine is code.
    """
    name = f"{hashlib.sha256(data).hexdigest()[:16]}-{versions}-{size[1]}x{size[0]}"
    return private_folder("onnxruntime-tensorrt", name)
