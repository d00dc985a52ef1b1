"""onnxruntime-gpu: what only a GPU can prove of its backend. Run as tests/gpu/test_on_gpu.py says."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stylesdk import MissingExtraError, Stylizer
from stylesdk.backends.onnxruntime import OnnxRuntimeBackend
from stylesdk.backends.onnxruntime_options import CUDA, VARIANTS
from stylesdk.bench import bench_frame
from stylesdk.styles import resolve

pytestmark = pytest.mark.gpu  # onnxruntime's CUDA and TensorRT providers, CUDA graphs, streams

SIZES = [(480, 640), (97, 131), (480, 640), (720, 1280), (64, 64), (480, 640)]


@pytest.fixture(params=["pycuda", "no pycuda"])
def copies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Our stream and page-locked memory, and onnxruntime's own."""
    if request.param == "no pycuda":

        def no_pycuda() -> None:
            raise MissingExtraError("pycuda", "rtx", "a test")

        monkeypatch.setattr("stylesdk.backends.onnxruntime_sized.open_device", no_pycuda)
    elif importlib.util.find_spec("pycuda") is None:
        pytest.skip("needs pycuda: python -m pip install 'stylesdk[rtx]'")
    yield request.param


def assert_near(found: np.ndarray, wanted: np.ndarray) -> None:
    """fp32 with TF32 on the GPU, against fp32 on the CPU."""
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 2 and difference.mean() <= 0.1, (difference.max(), difference.mean())


@pytest.mark.parametrize("style", ["starry_night", "wave.nano", "starry_night.base"])
def test_sizes_change_in_mid_stream(style: str, copies: str) -> None:
    with (
        Stylizer(style, device="cuda", runtime="onnxruntime") as cuda,
        Stylizer(style, device="cpu", runtime="onnxruntime") as cpu,
    ):
        assert cuda.backend.endswith("(CUDA)")
        for size in SIZES:
            frame = bench_frame(size)
            for strength in (1.0, 0.5):
                assert_near(cuda.run(frame, strength), cpu.run(frame, strength))
            assert np.array_equal(cuda.run(frame, 0.0), frame)


@pytest.mark.parametrize("style", ["starry_night", "six"])
def test_graph_has_the_pixels_of_the_plain_run(style: str, copies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [bench_frame((480, 640)), 255 - bench_frame((480, 640))]
    several = style == "six"
    mixes = [np.eye(6, dtype=np.float32)[k] for k in (0, 3)] if several else [None, None]
    graph = OnnxRuntimeBackend(resolve(style), device="cuda")
    monkeypatch.setitem(VARIANTS, CUDA, [variant for variant in VARIANTS[CUDA] if not variant.graph])
    plain = OnnxRuntimeBackend(resolve(style), device="cuda")
    for _ in range(3):
        for frame, mix in zip(frames, mixes, strict=True):
            for strength in (1.0, 0.25):
                found, wanted = graph.infer(frame, strength, mix), plain.infer(frame, strength, mix)
                assert np.abs(found.astype(int) - wanted).max() <= 1
    assert graph.cuda_graph, "the whole of a bundled style fits into a graph"
    assert not plain.cuda_graph
    for backend in (graph, plain):
        assert len(backend.run_in_place(20)) == 20
        backend.close()


def test_every_bundled_style_is_captured(copies: str) -> None:
    for style in ("starry_night", "starry_night.nano", "starry_night.base", "starry_night.int8", "six"):
        backend = OnnxRuntimeBackend(resolve(style), device="cuda")
        mix = np.eye(6, dtype=np.float32)[1] if style == "six" else None
        backend.infer(bench_frame((480, 640)), 1.0, mix)
        assert backend.cuda_graph, style
        backend.close()


def test_beside_torch_in_one_process(copies: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch with CUDA beside it")
    if not torch.cuda.is_available():
        pytest.skip("needs a torch built for CUDA")
    left = torch.randn(512, 512, device="cuda")
    wanted = (left @ left).cpu()
    frame = bench_frame((480, 640))
    with Stylizer("starry_night", device="cuda", runtime="onnxruntime") as stylizer:
        first = stylizer.run(frame)
        for _ in range(20):
            product = left @ left
            assert np.array_equal(stylizer.run(frame), first)
            torch.testing.assert_close(product.cpu(), wanted)
        torch.cuda.synchronize()
        free = torch.cuda.mem_get_info()[0]
        for _ in range(500):
            stylizer.run(frame)
        assert free - torch.cuda.mem_get_info()[0] < 16 << 20, "memory grows from frame to frame"
    torch.testing.assert_close((left @ left).cpu(), wanted)


def test_stylizers_in_threads_capture_and_run(copies: str) -> None:
    frames = [bench_frame(size) for size in ((240, 320), (360, 480), (480, 640))]
    with Stylizer("wave.nano", device="cpu", runtime="onnxruntime") as cpu:
        wanted = [cpu.run(frame) for frame in frames]
    problems: list[BaseException] = []

    def work(first: int) -> None:
        try:
            with Stylizer("wave.nano", device="cuda", runtime="onnxruntime") as stylizer:
                for turn in range(30):
                    index = (first + turn // 5) % 3
                    assert_near(stylizer.run(frames[index]), wanted[index])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems


def test_moved_to_another_thread(copies: str) -> None:
    frame, results = bench_frame((480, 640)), []
    with Stylizer("starry_night", device="cuda", runtime="onnxruntime") as stylizer:
        results.append(stylizer.run(frame))
        thread = threading.Thread(target=lambda: results.append(stylizer.run(frame)))
        thread.start()
        thread.join()
        results.append(stylizer.run(frame))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_tensorrt_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("needs TensorRT 10: python -m pip install 'tensorrt-cu13==10.*'")
    from styleexport.export import fp16_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    half = fp16_model(resolve("starry_night"), tmp_path, None)
    frame = bench_frame((480, 640))
    with Stylizer("starry_night", device="cpu", runtime="onnxruntime") as cpu:
        wanted = cpu.run(frame)
    for _ in range(2):  # builds; finds
        with Stylizer(half, device="cuda", runtime="onnxruntime-tensorrt") as stylizer:
            assert stylizer.backend.endswith("(TensorRT)")
            difference = np.abs(stylizer.run(frame).astype(int) - wanted)
            assert difference.max() <= 8 and difference.mean() <= 0.5
        engines = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.engine")}
        assert len(engines) == 1
