"""Models opened by onnxruntime-gpu with the CPU in the GPU's place (see the fixture ``gpu``)."""

from __future__ import annotations

from typing import Any

from pretend_onnxruntime import CUDA, OnnxRuntimeGpu

from stylesdk import Stylizer

STYLE = "starry_night.nano"
GRAPHS = [("1", "1"), ("1", "0"), ("0", "1"), ("0", "0")]  # prefer_nhwc, enable_cuda_graph


def on_gpu(style: str = STYLE, **options: Any) -> Stylizer:
    return Stylizer(style, **({"device": "cuda", "runtime": "onnxruntime"} | options))


def on_cpu(style: str = STYLE) -> Stylizer:
    return Stylizer(style, device="cpu", runtime="onnxruntime")


def variants(module: OnnxRuntimeGpu) -> list[tuple[str, str]]:
    """(prefer_nhwc, enable_cuda_graph) of each session of a size, in the order of opening."""
    opened = [dict(providers)[CUDA] for providers, shape in module.sessions if not isinstance(shape[1], str)]
    return [(options["prefer_nhwc"], options["enable_cuda_graph"]) for options in opened]
