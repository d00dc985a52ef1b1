"""Everything that only a GPU can prove, in one table: python benchmarks/gpu_check.py

Exit code 0: a GPU is there and nothing failed; 1: something failed; 2: no GPU. What is not installed is
"not run", with the reason; --strict counts that as failed. Needs nothing but the repository
(PYTHONPATH=sdk:trainer:export), torch and numpy; each further package adds rows. TensorRT comes last, and
the result file is written after each row, because a runtime that meets a GPU which it does not know may
end the process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
STYLES = ROOT / "sdk" / "stylesdk" / "styles"
SIZES = ((480, 640), (720, 1280))  # height, width
WARM_UP, RUNS = 50, 200
MEAN_STEPS, MAX_STEPS = 1.0, 16  # of 255: how far fp16 or TF32 may be from the CPU
PACKAGES = ("torch", "onnxruntime", "pycuda", "onnx", "cv2", "tensorrt", "tensorrt_rtx")

Figures = dict[str, float | int | str]


class NotRun(Exception):  # noqa: N818  # it is no error
    """Why a row could not be run."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    status: str  # ok, failed, not run
    figures: Figures


def need(package: str) -> Any:
    """Import a package, or say why the row is not run."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: the package is there, its libraries are not
        raise NotRun(f"no {package} ({error})") from error


def cuda_torch() -> Any:
    """The package torch, with a GPU."""
    torch = need("torch")
    if not torch.cuda.is_available():
        raise NotRun(f"torch {torch.__version__} sees no CUDA device")
    return torch


def no_gpu() -> str:
    """Why there is no GPU; empty where there is one."""
    try:
        usable: Callable[[], str] = importlib.import_module("stylesdk.gpu.device").cuda_usable
        return usable()
    except ImportError:  # stylesdk wants opencv
        with suppress(NotRun):
            cuda_torch()
            return ""
        return "neither stylesdk nor torch sees a CUDA device"


def environment(gpu: bool) -> Figures:
    """Versions, or why there is none."""
    found: Figures = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        if name == "tensorrt" and not gpu:  # without a driver its import may crash the process
            found[name] = "not asked without a GPU"
            continue
        try:
            found[name] = str(getattr(need(name), "__version__", None) or need(name).VERSION_TEXT)
        except NotRun as reason:
            found[name] = str(reason)
    with suppress(NotRun):
        torch = need("torch")
        found["cuda of torch"] = str(torch.version.cuda)
        if torch.cuda.is_available():
            found["GPU"] = torch.cuda.get_device_name(0)
            found["compute capability"] = ".".join(map(str, torch.cuda.get_device_capability(0)))
    return found


def shipped_model(given: str | None) -> Path:
    """The ONNX file to run: the one given, else a bundled style in fp32."""
    if given:
        return Path(given)
    found = sorted(STYLES.glob("*.onnx"))
    if not found:
        raise NotRun("no bundled style; give --model FILE.onnx")
    # By its whole name: beside it lie the same style in other sizes and in int8.
    return next((p for p in found if p.name == "starry_night.onnx"), found[0])


def half_model(given: str | None, folder: Path) -> Path:
    """The file given as it is, else a bundled style in fp16: converted at the first call, since none is shipped."""
    path = shipped_model(given)
    if given:
        return path
    half = folder / f"{path.stem}.fp16.onnx"
    if not half.exists():
        convert = need("styleexport.fp16_from_onnx").fp16_from_onnx
        half.write_bytes(convert(path.read_bytes(), str(path)))
    return half


def picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A BGR uint8 (H, W, 3) test picture: slopes, an edge, noise."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([x * 255 / width, y * 255 / height, 255 * (x > y)], axis=2)
    noise = np.random.default_rng(1).normal(0, 8, planes.shape)
    return np.clip(planes + noise, 0, 255).astype(np.uint8)


def compared(got: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> Figures:
    """Difference in steps of 255; raises where it is no rounding any more."""
    difference = np.abs(got.astype(np.int16) - wanted.astype(np.int16))
    figures: Figures = {"mean steps": round(float(difference.mean()), 4), "max steps": int(difference.max())}
    # A blank picture equals a blank picture: what is compared must have something in it.
    if difference.mean() > MEAN_STEPS or difference.max() > MAX_STEPS or wanted.std() < 1:
        raise RuntimeError(f"wrong pixels: {figures}, expected at most {MEAN_STEPS} and {MAX_STEPS}")
    return figures


def spread(milliseconds: list[float], prefix: str = "") -> Figures:
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99))
    return {
        f"{prefix}p50 ms": round(p50, 3),
        f"{prefix}p90 ms": round(p90, 3),
        f"{prefix}p99 ms": round(p99, 3),
    }


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
    path, frame = shipped_model(model), picture(SIZES[0])
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


def host_times(call: Callable[[], object]) -> list[float]:
    """Milliseconds of ``call``, which waits for the GPU itself."""
    seen = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        call()
        seen.append((time.perf_counter() - start) * 1e3)
    return seen[WARM_UP:]


def stream_times(torch: Any, stream: Any, call: Callable[[], object]) -> list[float]:
    """Milliseconds on the GPU of what ``call`` queues on ``stream``."""
    marks = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(WARM_UP + RUNS)]
    with torch.cuda.stream(stream):
        for start, end in marks:
            start.record(stream)
            if call() is False:  # TensorRT's way to say no
                raise RuntimeError("the engine failed on a frame")
            end.record(stream)
    stream.synchronize()
    return [start.elapsed_time(end) for start, end in marks[WARM_UP:]]


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
    stylesdk, frame = need("stylesdk"), picture(SIZES[0])
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


def copies(size: tuple[int, int]) -> Figures:
    """One frame there and back, from page-locked and from ordinary memory."""
    torch, figures = cuda_torch(), Figures()
    stream = torch.cuda.Stream()
    for kind in ("pinned", "pageable"):
        host = torch.from_numpy(picture(size)).clone()
        host = host.pin_memory() if kind == "pinned" else host
        device = torch.empty_like(host, device="cuda")

        def there_and_back(host: Any = host, device: Any = device) -> None:
            with torch.cuda.stream(stream):
                device.copy_(host, non_blocking=True)
                host.copy_(device, non_blocking=True)
            stream.synchronize()

        figures |= spread(host_times(there_and_back), f"{kind} ")
    return figures


def training(batch: int, steps: int, crop: int = 192) -> Figures:
    """Images a second of critic, generator and perceptual steps in bf16, with random weights."""
    torch = cuda_torch()
    losses = need("styletrainer.losses")
    generators = need("styletrainer.generators")
    torch.backends.cudnn.benchmark = True
    generator = generators.build_generator("realtime", {"size": "small"}).cuda()
    critic = need("styletrainer.discriminators").PatchGAN().cuda()
    perceive = random_vgg(torch)
    optimizers = [torch.optim.Adam(m.parameters(), 1e-4) for m in (generator, critic)]
    photo, art = (torch.rand(batch, 3, crop, crop, device="cuda") for _ in range(2))
    target = {layer: losses.gram(f)[:1] for layer, f in perceive(art).items()}

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            output = generators.with_margin(generator, photo)
            against = losses.critic_loss(critic(art), critic(output.detach()), "hinge")
        optimizers[1].zero_grad()
        against.backward()
        optimizers[1].step()
        with torch.autocast("cuda", torch.bfloat16):
            features = perceive(output)
            with torch.no_grad():
                wanted = perceive(photo)[2]
            total = losses.content_loss(features[2], wanted) + losses.fooling_loss(critic(output), "hinge")
        total = total + sum(losses.style_loss(f, target[layer]) for layer, f in features.items())
        optimizers[0].zero_grad()
        total.backward()
        optimizers[0].step()

    for _ in range(5):
        step()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30
    return {"images/s": round(batch / statistics.median(seconds), 1), "memory GiB": round(memory, 2)}


def random_vgg(torch: Any) -> Callable[[Any], dict[int, Any]]:
    """VGG-19 up to relu4_1, random: the time does not depend on the weights. RGB -> {block: activation}."""
    blocks, channels = torch.nn.ModuleList(), 3
    for width, convolutions in ((64, 2), (128, 2), (256, 4), (512, 1)):
        layers = [torch.nn.MaxPool2d(2)] if channels > 3 else []
        for _ in range(convolutions):
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        blocks.append(torch.nn.Sequential(*layers))
    blocks = blocks.cuda().requires_grad_(False)

    def perceive(x: Any) -> dict[int, Any]:
        found = {}
        for index, block in enumerate(blocks):
            found[index] = x = block(x)
        return found

    return perceive


def checks(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """Every row but the first, in order."""
    model = options.model
    half = partial(half_model, model, folder)
    for size in (*SIZES, (1080, 1920)):
        yield f"copies {size[1]}x{size[0]}", partial(copies, size)
    for batch in (4, 16):
        yield f"training, batch {batch}", partial(training, batch, options.steps)
    yield "onnxruntime CUDA: right pixels", partial(ort_pixels, model)
    for size in SIZES:
        label = f"{size[1]}x{size[0]}"
        yield f"onnxruntime CUDA: Stylizer {label}", partial(stylizer_latency, half, size)
        yield f"onnxruntime CUDA: on the GPU {label}", partial(ort_graph, half, size)
    for flavour in ("tensorrt", "tensorrt_rtx"):
        plans = {size: partial(plan_of, half, flavour, size, folder) for size in SIZES}
        yield f"{flavour}: right pixels", partial(engine_pixels, half, plans[SIZES[0]])
        for size, plan in plans.items():
            label = f"{size[1]}x{size[0]}"
            yield f"{flavour}: Stylizer {label}", partial(stylizer_latency, plan, size)
            yield f"{flavour}: on the GPU {label}", partial(engine_graph, plan, flavour, size)


def checked(name: str, check: Callable[[], Figures], reason: str) -> Row:
    """Run one row; what fails in it stays in it."""
    if reason:
        return Row(name, "not run", {"why": f"no GPU: {reason}"})
    try:
        return Row(name, "ok", check())
    except (NotRun, ImportError) as missing:
        return Row(name, "not run", {"why": _told(missing)})
    except Exception as error:  # noqa: BLE001  # each row says itself what went wrong
        return Row(name, "failed", {"why": f"{type(error).__name__}: {_told(error)}"})


def _told(error: BaseException) -> str:
    return " ".join(str(error).replace(str(ROOT), ".").split())[:400]


def show(rows: list[Row]) -> None:
    """The table, by rich where it is there."""
    lines = [(r.name, r.status, ", ".join(f"{k} {v}" for k, v in r.figures.items())) for r in rows]
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        print("\n".join(f"{name:38} {status:8} {text}" for name, status, text in lines))
        return
    colours = {"ok": "green", "failed": "red", "not run": "yellow"}
    table = Table("check", "status", "figures", title="gpu_check")
    for name, status, text in lines:
        table.add_row(name, f"[{colours[status]}]{status}[/]", escape(text))
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description="Everything that only a GPU can prove, in one table.")
    parser.add_argument("--model", help="ONNX file in the frame contract; default: a bundled style")
    parser.add_argument("--steps", type=int, default=30, help="training steps to time")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results"), help="folder of the result file")
    parser.add_argument("--strict", action="store_true", help="what is not run counts as failed")
    options = parser.parse_args(arguments)
    reason = no_gpu()
    rows = [Row("environment", "ok", environment(gpu=not reason))]
    result = Path(options.out) / f"gpu_check-{time.strftime('%Y%m%d-%H%M%S')}.json"
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks(options, Path(folder)):
            if not reason:
                print(f"{name} ...", file=sys.stderr, flush=True)
            rows.append(checked(name, check, reason))
            if not reason:  # nothing was measured without one
                result.parent.mkdir(parents=True, exist_ok=True)
                result.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    show(rows)
    if reason:
        print(f"no GPU: {reason}")
        return 2
    bad = ("failed", "not run") if options.strict else ("failed",)
    return int(any(row.status in bad for row in rows))


if __name__ == "__main__":
    sys.exit(main())
