"""Rows of gpu_check: styles on onnxruntime and TensorRT, right pixels first, then times."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gpu_basics import (
    RUNS,
    WARM_UP,
    Figures,
    NotRun,
    compared,
    cuda_torch,
    host_times,
    need,
    picture,
    shipped_model,
    spread,
    stream_times,
)

SMALL = (480, 640)  # height, width
# Asked of `small` in fp16 on an H200: ms of GPU time, ms of Stylizer.run, by (height, width).
LIMITS = {(1080, 1920): (0.5, 1.2), (2160, 3840): (2.0, None)}
STREAM_LIMIT = 1.5  # times as many frames a second as run


def ort_session(model: Path, options: dict[str, str] | None = None) -> Any:
    """A session of onnxruntime on CUDA, and on nothing else."""
    with suppress(NotRun):
        need("torch")  # first: its wheels bring the CUDA libraries into the process
    ort = need("onnxruntime")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise NotRun("this onnxruntime has no CUDA provider: install onnxruntime-gpu")
    session = ort.InferenceSession(str(model), providers=[("CUDAExecutionProvider", options or {})])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError(f"fell back to {session.get_providers()[0]}")
    return session


def ort_pixels(model: str | None) -> Figures:
    path, frame = shipped_model(model), picture(SMALL)
    feeds = {"frame": frame[None], "strength": np.ones(1, np.float32)}
    cpu = need("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return compared(ort_session(path).run(None, feeds)[0], cpu.run(None, feeds)[0])


def ort_graph(model: Callable[[], Path], size: tuple[int, int]) -> Figures:
    """GPU-resident frames through onnxruntime, without and with its CUDA graph."""
    torch, path, figures = cuda_torch(), model(), Figures()
    tensors = {
        "frame": torch.from_numpy(picture(size)[None]).cuda(),
        "strength": torch.ones(1, device="cuda"),
    }
    styled = torch.empty_like(tensors["frame"])
    for prefix, options in (("", {}), ("graph ", {"enable_cuda_graph": "1"})):
        session = ort_session(path, options)
        binding = session.io_binding()
        for name, tensor in tensors.items():
            kind = np.uint8 if name == "frame" else np.float32
            binding.bind_input(name, "cuda", 0, kind, list(tensor.shape), tensor.data_ptr())
        binding.bind_output("styled", "cuda", 0, np.uint8, list(styled.shape), styled.data_ptr())
        torch.cuda.synchronize()
        figures |= spread(host_times(partial(session.run_with_iobinding, binding)), prefix)
    return figures


def stylizer_latency(open_model: Callable[[], Path], size: tuple[int, int]) -> Figures:
    """What a user of ``Stylizer.run`` waits for a frame, copies included."""
    stylesdk, frame = need("stylesdk"), picture(size)
    path = open_model()
    with stylesdk.Stylizer(path, device="cuda") as stylizer:
        for _ in range(WARM_UP):
            stylizer.run(frame)
        stylizer.latency.clear()
        for _ in range(RUNS):
            stylizer.run(frame)
        total, inside = stylizer.latency["total"], stylizer.latency["inference"]
        figures: Figures = {"p50 ms": total.p50, "p90 ms": total.p90, "p99 ms": total.p99}
        figures["inference p50 ms"] = inside.p50
        return {**{k: round(float(v), 3) for k, v in figures.items()}, "backend": stylizer.backend}


def plan_of(model: Callable[[], Path], flavour: str, size: tuple[int, int], folder: Path) -> Path:
    """A fixed-size plan, built at the first call."""
    need(flavour)
    export = need("styleexport.engine_from_onnx")
    folder.mkdir(exist_ok=True)
    path = folder / f"{flavour}-{size[0]}.plan"
    if not path.exists():
        export.engine_from_onnx(
            model(),
            path,
            min_size=size,
            opt_size=size,
            max_size=size,
            flavour=flavour,
        )
    return path


def engine_pixels(model: Callable[[], Path], plan: Callable[[], Path]) -> Figures:
    """An engine through Stylizer against the same graph on the CPU."""
    stylesdk, frame = need("stylesdk"), picture(SMALL)
    start = time.perf_counter()
    path = plan()
    built = time.perf_counter() - start
    with stylesdk.Stylizer(model(), device="cpu") as reference:
        wanted = reference.run(frame)
    with stylesdk.Stylizer(path) as stylizer:
        figures = compared(stylizer.run(frame), wanted)
    return {**figures, "build s": round(built, 2)}


def engine_graph(plan: Callable[[], Path], flavour: str, size: tuple[int, int]) -> Figures:
    """GPU-resident frames through an engine, without and with a CUDA graph captured by torch."""
    torch, trt = cuda_torch(), need(flavour)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan().read_bytes())
    context = engine and engine.create_execution_context()
    if not context:
        raise RuntimeError("TensorRT refuses the plan on this GPU")
    shape = (1, *size, 3)
    tensors = {
        "frame": torch.from_numpy(picture(size)[None]).cuda(),
        "strength": torch.ones(1, device="cuda"),
        "styled": torch.zeros(shape, dtype=torch.uint8, device="cuda"),
    }
    bound = [context.set_tensor_address(name, tensor.data_ptr()) for name, tensor in tensors.items()]
    if not all((context.set_input_shape("frame", shape), *bound)):
        raise RuntimeError("TensorRT refuses the buffers")
    torch.cuda.synchronize()
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    run = partial(context.execute_async_v3, stream.cuda_stream)
    figures = spread(stream_times(torch, stream, run))
    wanted = tensors["styled"].clone()
    try:
        with torch.cuda.graph(graph, stream=stream):
            run()
    except RuntimeError as error:
        return {**figures, "graph": f"not available: {error}"}
    tensors["styled"].zero_()
    torch.cuda.synchronize()
    figures |= spread(stream_times(torch, stream, graph.replay), "graph ")
    if not torch.equal(wanted, tensors["styled"]):
        raise RuntimeError("the graph's pixels differ from the engine's")
    return figures


def reference_model(folder: Path) -> Path:
    """The network that the field ships (Johnson et al. 2016), random weights, fp16, in our frame contract."""
    from stylesdk import Manifest

    path = folder / "reference.onnx"
    if not path.exists():
        exporter, half = need("styleexport.onnx_from_checkpoint"), need("styleexport.fp16_from_onnx")
        generator = need("styletrainer.generators").Johnson().eval()
        manifest = Manifest(name="reference", styles=("reference",), stride=8, precision="fp32", licence="Apache-2.0")
        path.write_bytes(half.fp16_from_onnx(exporter.onnx_from_generator(generator, manifest), "reference"))
    return path


def engine_limits(plan: Callable[[], Path], size: tuple[int, int], asked: bool) -> Figures:
    """GPU time of an engine, ``Stylizer.run`` and ``stream`` host to host; "missed" names what is asked and not met."""
    stylesdk, frame = need("stylesdk"), picture(size)
    from stylesdk.backends.tensorrt import TensorRTBackend

    backend = TensorRTBackend(plan())
    with stylesdk.Stylizer(backend=backend) as stylizer:
        run = host_times(lambda: stylizer.run(frame))
        gpu = backend.run_in_place(WARM_UP + RUNS)[WARM_UP:]
        frames = stylizer.stream(frame for _ in range(WARM_UP + RUNS + 1))
        stream = host_times(lambda: next(frames))
        graph = backend.cuda_graph
        frames.close()
    times = float(np.mean(run) / np.mean(stream))
    figures = {
        **spread(gpu, "GPU "),
        **spread(run, "run "),
        "stream over run": round(times, 2),
        "CUDA graph": int(graph),
    }
    wanted = LIMITS.get(size, (None, None)) if asked else (None, None)
    found = (float(figures["GPU p50 ms"]), float(figures["run p50 ms"]))
    missed = [f"{f:.2f} ms, asked {w}" for f, w in zip(found, wanted, strict=True) if w and f > w]
    missed += [f"stream {times:.2f}, asked {STREAM_LIMIT}"] if asked and times < STREAM_LIMIT else []
    return {**figures, "missed": "; ".join(missed) or "nothing"}
