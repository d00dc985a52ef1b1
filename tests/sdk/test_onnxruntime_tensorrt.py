"""onnxruntime's TensorRT provider, and our stream and memory, on a pretend GPU."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime_gpu_cases import STYLE, on_cpu, on_gpu
from pretend_cuda import live, run_on_pretend_gpu
from pretend_onnxruntime import CPU, CUDA, TENSORRT, OnnxRuntimeGpu

from styleexport.export import fp16_model
from stylesdk import DeviceError
from stylesdk.backends.onnxruntime_options import engine_cache
from stylesdk.bench import bench_frame
from stylesdk.styles import resolve

# TensorRT


def test_tensorrt_options_and_its_cache(gpu: Callable[..., OnnxRuntimeGpu], tmp_path: Path) -> None:
    module, frame = gpu(), bench_frame((48, 64))
    with on_gpu(runtime="onnxruntime-tensorrt", device="auto") as stylizer, on_cpu() as wanted:
        assert stylizer.backend.endswith("(TensorRT)")
        np.testing.assert_array_equal(stylizer.run(frame), wanted.run(frame))
        stylizer.run(bench_frame((64, 64)))
    assert module.captures == 2
    folders = []
    for providers, _ in module.sessions[1:]:
        (first, options), (second, plain) = providers
        assert (first, second) == (TENSORRT, CUDA) and plain["enable_cuda_graph"] == "0"
        assert options["trt_cuda_graph_enable"] == options["trt_engine_cache_enable"] == "True"
        assert options["trt_timing_cache_enable"] == "True" and options["trt_fp16_enable"] == "False"
        assert options["trt_timing_cache_path"] == options["trt_engine_cache_path"]
        folders.append(Path(options["trt_engine_cache_path"]))
    assert len(set(folders)) == 2, "engines of two sizes have the same names"
    for folder in folders:
        assert folder.parent == tmp_path / "cache" / "stylesdk" / "onnxruntime-tensorrt"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert module.sessions[0][0][0][1]["trt_engine_cache_enable"] == "False", "the free session keeps nothing"


def test_tensorrt_takes_all_or_is_an_error(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    for behaviour, got in (
        ({"lost": [TENSORRT]}, CUDA),
        ({"lost": [TENSORRT, CUDA]}, CPU),
        ({"taken": CUDA}, CUDA),
    ):
        gpu(**behaviour)
        for device in ("auto", "cuda"):
            with pytest.raises(DeviceError, match=rf"fell back to {got}(.|\n)*tensorrt-cu13"):
                on_gpu(runtime="onnxruntime-tensorrt", device=device)


def test_tensorrt_never_runs_on_the_cpu(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu()
    with pytest.raises(DeviceError, match=r"'cpu'(.|\n)*auto, cuda"):
        on_gpu(runtime="onnxruntime-tensorrt", device="cpu")
    gpu().available = [CPU]
    with pytest.raises(DeviceError, match=rf"only {CPU}(.|\n)*{TENSORRT}"):
        on_gpu(runtime="onnxruntime-tensorrt", device="auto")


def test_a_damaged_engine_is_thrown_away(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    damaged: list[Path] = []

    def refuse(provider: str, options: dict[str, str], shape: Any) -> str:
        folder = Path(options.get("trt_engine_cache_path", "/nowhere"))
        if damaged and any(folder.glob("*.engine")):
            return "TensorRT EP could not deserialize engine from cache"
        if folder.is_dir():
            (folder / "a.engine").write_bytes(b"half of an engi")
            damaged.append(folder)
        return ""

    gpu(refuse=refuse)
    frame = bench_frame((48, 64))
    for _ in range(2):  # writes it; meets it
        with on_gpu(runtime="onnxruntime-tensorrt") as stylizer:
            stylizer.run(frame)
    assert len(damaged) == 2 and damaged[0] == damaged[1]


def test_fp16_graphs_tell_tensorrt(gpu: Callable[..., OnnxRuntimeGpu], tmp_path: Path) -> None:
    module = gpu()
    with on_gpu(str(fp16_model(resolve(STYLE), tmp_path, None)), runtime="onnxruntime-tensorrt"):
        assert module.sessions[0][0][0][1]["trt_fp16_enable"] == "True"


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = engine_cache(b"model", "1.31", (48, 64))
    assert folder == engine_cache(b"model", "1.31", (48, 64)) and folder.name.endswith("-1.31-64x48")
    others = [(b"weights", "1.31", (48, 64)), (b"model", "1.32", (48, 64)), (b"model", "1.31", (64, 48))]
    assert len({folder, *(engine_cache(*other) for other in others)}) == 4
    folder.chmod(0o770)
    with pytest.raises(DeviceError, match="others may write"):
        engine_cache(b"model", "1.31", (48, 64))


# With pycuda, on the pretend driver


def on_pretend_gpu(code: str) -> str:
    prelude = f"""
        import gc, sys
        import numpy as np
        import stylesdk
        from pretend_onnxruntime import CUDA, OnnxRuntimeGpu
        from stylesdk.backends.onnxruntime import OnnxRuntimeBackend
        from stylesdk.bench import bench_frame
        from stylesdk.styles import resolve
        STYLE = resolve({STYLE!r})
        cpu = OnnxRuntimeBackend(STYLE, device="cpu")
        module = sys.modules["onnxruntime"] = OnnxRuntimeGpu()
        backend = OnnxRuntimeBackend(STYLE, device="cuda")
        sizes = [(48, 64), (64, 64), (80, 64)]
        """
    return run_on_pretend_gpu(prelude + code, FAKECUDA_LOG="1").stderr


def test_our_stream_and_our_memory() -> None:
    log = on_pretend_gpu("""
        for index in (0, 1, 0, 2, 0):
            frame = bench_frame(sizes[index])
            for strength in (1.0, 0.3):
                found = backend.infer(frame, strength)
                np.testing.assert_array_equal(found, cpu.infer(frame, strength))
        first = backend.infer(frame, 1.0)
        kept = first.copy()
        backend.infer(255 - frame, 1.0)
        np.testing.assert_array_equal(first, kept)
        streams = [dict(providers)[CUDA].get("user_compute_stream") for providers, _ in module.sessions]
        assert streams[0] is None, "the free session runs nothing"
        assert all(stream.isdigit() and int(stream) for stream in streams[1:]), streams
        assert not any(module.synchronized), "the copy back is waited for, once"
        assert backend.cuda_graph and module.captures == 3
        times = backend.run_in_place(5)
        assert len(times) == 5 and all(time >= 0 for time in times)
        backend.close()
        gc.collect()
        assert not module.living
        """)
    assert live(log) == {"device": 0, "pinned": 0, "streams": 0, "events": 0}
    # Of 12 frames: in, computed, out. Of 5 in place: start and end.
    assert log.count("cuEventRecord") == 12 * 3 + 5 * 2


def test_nothing_grows_over_many_frames() -> None:
    log = on_pretend_gpu("""
        frame = bench_frame((16, 24))
        backend.infer(frame, 1.0)
        print("MARK", file=sys.stderr, flush=True)
        for _ in range(300):
            backend.infer(frame, 1.0)
        print("MARK", file=sys.stderr, flush=True)
        backend.close()
        """)
    before, during, _ = log.split("MARK")
    assert live(before)["device"] == 3 and live(before)["pinned"] == 3
    assert live(during) == {"device": 0, "pinned": 0, "streams": 0, "events": 0}


def test_no_memory_for_the_buffers() -> None:
    log = on_pretend_gpu("""
        import pycuda.driver as cuda
        frame, real = bench_frame((48, 64)), cuda.mem_alloc
        kept = backend.infer(frame, 1.0)

        def full(count):
            raise cuda.MemoryError("cuMemAlloc failed: out of memory")

        cuda.mem_alloc = full
        try:
            backend.infer(bench_frame((64, 64)), 1.0)
        except stylesdk.DeviceError as error:
            assert "out of memory" in str(error), error
        else:
            raise SystemExit("ran")
        gc.collect()
        assert not module.living
        cuda.mem_alloc = real
        np.testing.assert_array_equal(backend.infer(frame, 1.0), kept)
        assert backend.cuda_graph
        backend.close()
        """)
    assert live(log) == {"device": 0, "pinned": 0, "streams": 0, "events": 0}
