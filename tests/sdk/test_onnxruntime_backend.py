"""onnxruntime on the CPU, and its GPU path with the CPU in the GPU's place. Never a speed."""

from __future__ import annotations

import gc
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pretend_cuda import live, run_on_pretend_gpu
from pretend_onnxruntime import CPU, CUDA, TENSORRT, OnnxRuntimeGpu

from styleexport.export import fp16_model
from styleexport.fp16_from_onnx import sealed
from stylesdk import DeviceError, MissingExtraError, ModelFileError, Stylizer
from stylesdk.backends.onnxruntime import OnnxRuntimeBackend, _warn
from stylesdk.backends.onnxruntime_options import engine_cache
from stylesdk.backends.onnxruntime_sized import Gate
from stylesdk.bench import bench_frame
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from tiny_models import painting_onnx

STYLE = "starry_night.nano"
GRAPHS = [("1", "1"), ("1", "0"), ("0", "1"), ("0", "0")]  # prefer_nhwc, enable_cuda_graph


@pytest.fixture(autouse=True)
def fresh_warnings() -> Iterator[None]:
    _warn.cache_clear()
    yield
    _warn.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., OnnxRuntimeGpu]:
    """Puts a GPU without pycuda in place, and an onnxruntime-gpu of the behaviour that it is called with."""

    def no_pycuda() -> None:
        raise MissingExtraError("pycuda", "rtx", "a test")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stylesdk.backends.onnxruntime_gpu.cuda_usable", lambda: "")
    monkeypatch.setattr("stylesdk.backends.onnxruntime_sized.open_device", no_pycuda)

    def place(**behaviour: Any) -> OnnxRuntimeGpu:
        module = OnnxRuntimeGpu(**behaviour)
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        return module

    return place


def on_gpu(style: str = STYLE, **options: Any) -> Stylizer:
    return Stylizer(style, **({"device": "cuda", "runtime": "onnxruntime"} | options))


def on_cpu(style: str = STYLE) -> Stylizer:
    return Stylizer(style, device="cpu", runtime="onnxruntime")


def variants(module: OnnxRuntimeGpu) -> list[tuple[str, str]]:
    """(prefer_nhwc, enable_cuda_graph) of each session of a size, in the order of opening."""
    opened = [dict(providers)[CUDA] for providers, shape in module.sessions if not isinstance(shape[1], str)]
    return [(options["prefer_nhwc"], options["enable_cuda_graph"]) for options in opened]


# Pictures


@pytest.mark.parametrize("style", [STYLE, "starry_night", "wave.int8"])
def test_pixels_of_the_cpu_in_every_size_and_strength(style: str, gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu()
    with on_gpu(style) as found, on_cpu(style) as wanted:
        assert "(CUDA)" in found.backend and "(CPU)" in wanted.backend
        for size in ((120, 160), (97, 131), (120, 160), (64, 48)):
            frame = bench_frame((240, 320))[: size[0], : size[1]]
            before = frame.copy()
            for strength in (1.0, 0.4, 0.0):
                np.testing.assert_array_equal(found.run(frame, strength), wanted.run(frame, strength))
            np.testing.assert_array_equal(frame, before)


def test_mixes_change_from_frame_to_frame(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module, frame = gpu(), bench_frame((64, 96))
    mixes: list[Any] = ["wave", {"wave": 0.7, "udnie": 0.3}, "the_scream", None]
    with on_gpu("six") as found, on_cpu("six") as wanted:
        for mix in mixes:
            np.testing.assert_array_equal(found.run(frame, style=mix), wanted.run(frame, style=mix))
    assert module.captures == 1, "a mix is an input, and its graph is captured once"


def test_results_are_the_callers(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu()
    frame = bench_frame((64, 96))
    with on_gpu() as stylizer:
        first = stylizer.run(frame)
        kept = first.copy()
        stylizer.run(255 - frame)
        stylizer.run(frame[:48, :64])
        again = stylizer.run(frame)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(again, kept)
    first[:] = 0  # writable


# Sessions: one a size


def test_a_session_for_each_of_two_sizes(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module = gpu()
    frames = [bench_frame((48 + 16 * index, 64)) for index in range(4)]
    with on_gpu() as stylizer:
        for index in (0, 1, 0, 1, 2, 1, 0, 3):
            stylizer.run(frames[index])
            gc.collect()
            assert len(module.living) <= 2
        opened = [shape[1] for _, shape in module.sessions]
        # The free one; 48 and 64 once, though they took turns; 80 drove out 48, which came back.
        assert opened == ["height", 48, 64, 80, 48, 96]
    gc.collect()
    assert not module.living


def test_a_graph_is_captured_once_a_size_and_reported(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module, frame = gpu(), bench_frame((48, 64))
    backend = OnnxRuntimeBackend(resolve(STYLE), device="cuda")
    assert not backend.cuda_graph
    for _ in range(3):
        backend.infer(frame, 1.0)
    assert backend.cuda_graph and module.captures == 1 and variants(module) == [GRAPHS[0]]
    assert all(module.synchronized), "without a stream of ours, onnxruntime must wait"
    backend.close()


def test_another_thread_captures_its_own_graph(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module, frame, results = gpu(), bench_frame((48, 64)), []
    with on_gpu() as stylizer:
        results.append(stylizer.run(frame))
        thread = threading.Thread(target=lambda: results.append(stylizer.run(frame)))
        thread.start()
        thread.join()
    assert module.captures == 2
    np.testing.assert_array_equal(*results)


def test_stylizers_in_threads_never_break_a_capture(gpu: Callable[..., OnnxRuntimeGpu], tmp_path: Path) -> None:
    module, path = gpu(), tmp_path / "paint.onnx"
    path.write_bytes(painting_onnx(("one",)))
    with on_cpu(str(path)) as stylizer:
        frames = [bench_frame((32 + 16 * index, 48)) for index in range(4)]
        wanted = [stylizer.run(frame, 0.5) for frame in frames]
    problems: list[BaseException] = []

    def work(first: int) -> None:
        try:
            with on_gpu(str(path)) as stylizer:
                for turn in range(12):
                    index = (first + turn // 2) % 4
                    found = stylizer.run(frames[index], 0.5)
                    np.testing.assert_array_equal(found, wanted[index])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    assert module.captures == 18 and set(variants(module)) == {GRAPHS[0]}, "every one with its graph"


def test_gate_lets_users_in_together_and_a_capture_alone() -> None:
    gate, inside, order = Gate(), threading.Barrier(2), []

    def use() -> None:
        with gate.shared():
            inside.wait(5)  # both are in at once
            order.append("used")

    def capture() -> None:
        with gate.alone():
            order.append("captured")

    users = [threading.Thread(target=use) for _ in range(2)]
    users[0].start()
    while not inside.n_waiting:
        pass
    users[1].start()
    users[1].join()
    users[0].join()
    with gate.shared():
        alone = threading.Thread(target=capture)
        alone.start()
        order.append("still used")
    alone.join()
    assert order == ["used", "used", "still used", "captured"]


# What a provider is told, and what it refuses


def test_options_of_cuda(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module = gpu()  # which refuses every name that the real library does not have
    with on_gpu() as stylizer:
        stylizer.run(bench_frame((48, 64)))
    [(name, options)] = module.sessions[-1][0]
    assert name == CUDA
    assert options == {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "enable_cuda_graph": "1",
        "prefer_nhwc": "1",
        "use_tf32": "1",
    }


def test_nhwc_refused_at_opening(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module = gpu(refuse=lambda _, options, __: "no NHWC kernel" if options["prefer_nhwc"] == "1" else "")
    with on_gpu() as stylizer:
        stylizer.run(bench_frame((48, 64)))
        stylizer.run(bench_frame((64, 64)))
    assert variants(module) == [("0", "1"), ("0", "1")], "and not asked for again"


def test_nhwc_refused_in_a_run(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    def run(options: dict[str, str], shape: tuple[int, ...]) -> None:
        if options["prefer_nhwc"] == "1":
            raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")

    module, frame = gpu(run=run), bench_frame((48, 64))
    backend = OnnxRuntimeBackend(resolve(STYLE), device="cuda")
    with on_cpu() as wanted:
        np.testing.assert_array_equal(backend.infer(frame, 1.0), wanted.run(frame))
    assert variants(module) == GRAPHS[:3] and backend.cuda_graph
    backend.infer(bench_frame((64, 64)), 1.0)
    assert variants(module) == [*GRAPHS[:3], GRAPHS[2]]
    gc.collect()
    assert len(module.living) == 2, "what was refused is freed"
    backend.close()


def test_graph_refused(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    why = "This session cannot use the graph capture feature as requested by the user"
    module = gpu(refuse=lambda _, options, __: why if options["enable_cuda_graph"] == "1" else "")
    backend = OnnxRuntimeBackend(resolve(STYLE), device="cuda")
    backend.infer(bench_frame((48, 64)), 1.0)
    assert variants(module) == GRAPHS[:2] and not backend.cuda_graph and not module.captures
    backend.close()


def test_a_frame_that_nothing_can_style_costs_later_ones_nothing(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    def run(options: dict[str, str], shape: tuple[int, ...]) -> None:
        if shape[1] < 16:
            raise RuntimeError("Pad: reflection is larger than the frame")

    module = gpu(run=run)
    with on_gpu() as stylizer:
        with pytest.raises(DeviceError, match=r"failed on a frame of \(8, 64, 3\)(.|\n)*larger frame"):
            stylizer.run(bench_frame((48, 64))[:8])
        stylizer.run(bench_frame((48, 64)))
    assert variants(module) == [*GRAPHS, GRAPHS[0]]


# The CPU is never silent


def test_cuda_that_falls_back_is_an_error(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu(lost=[CUDA])
    with pytest.raises(DeviceError, match=rf"fell back to {CPU} \(Failed to load libcublas(.|\n)*{CUDA}"):
        on_gpu()


def test_cuda_that_falls_back_later_is_an_error(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    module = gpu()
    with on_gpu() as stylizer:
        module.lost = [CUDA]
        with pytest.raises(DeviceError, match="fell back"):
            stylizer.run(bench_frame((48, 64)))
        module.lost = []
        stylizer.run(bench_frame((48, 64)))


def test_auto_warns_once_and_says_so_in_its_name(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu(lost=[CUDA])
    with pytest.warns(UserWarning, match="runs on the CPU: CUDA does not work, onnxruntime fell back") as caught:
        stylizer = on_gpu(device="auto")
    assert [warning.filename for warning in caught] == [__file__]
    assert "(CPU: CUDA does not work" in stylizer.backend
    with warnings.catch_warnings(), stylizer, on_cpu() as wanted:
        warnings.simplefilter("error")
        on_gpu(device="auto").close()  # once
        frame = bench_frame((48, 64))
        np.testing.assert_array_equal(stylizer.run(frame), wanted.run(frame))


def test_no_driver(gpu: Callable[..., OnnxRuntimeGpu], monkeypatch: pytest.MonkeyPatch) -> None:
    module = gpu()
    monkeypatch.setattr("stylesdk.backends.onnxruntime_gpu.cuda_usable", lambda: "no NVIDIA driver (libcuda)")
    for runtime in ("onnxruntime", "onnxruntime-tensorrt"):
        with pytest.raises(DeviceError, match="no NVIDIA driver"):
            on_gpu(runtime=runtime)
    assert not module.sessions, "nothing of CUDA is touched"
    with pytest.warns(UserWarning, match="no NVIDIA driver"):
        assert "(CPU: CUDA does not work, no NVIDIA driver" in on_gpu(device="auto").backend


def test_auto_without_cuda_in_this_onnxruntime_is_the_cpu_and_no_news(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu().available = [CPU]
    assert on_gpu(device="auto").backend.endswith("(CPU)")
    with pytest.raises(DeviceError, match=r"only CPUExecutionProvider(.|\n)*stylesdk\[gpu\]"):
        on_gpu(device="cuda")


def test_auto_takes_the_gpu_that_works(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu()
    assert on_gpu(device="auto").backend.endswith("(CUDA)")


def test_who_is_at_fault_file_or_provider(
    gpu: Callable[..., OnnxRuntimeGpu], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(refuse=lambda *_: "CUDA failure 35: driver is too old")
    with pytest.raises(DeviceError, match="CUDA failure 35"):
        on_gpu()
    data = painting_onnx(("one",))
    model = onnx.load_from_string(data)
    model.graph.node[0].op_type = "NoSuchOperator"
    monkeypatch.setattr(onnx.checker, "check_model", lambda *_, **__: None)  # it would not be written
    path = tmp_path / "foreign.onnx"
    path.write_bytes(sealed(model, manifest_from_onnx(data, "painting")))
    gpu()
    with pytest.raises(ModelFileError, match=r"refuses(.|\n)*NoSuchOperator"):
        on_gpu(str(path))


def test_refused_file_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Left to itself, onnxruntime prints that it falls back from the CPU to the CPU."""
    path = tmp_path / "six.onnx"
    path.write_bytes(painting_onnx(("one", "two"), weights=3))
    with pytest.raises(ModelFileError, match="style"):
        on_cpu(str(path))
    assert capsys.readouterr() == ("", "")


# Out of memory


@pytest.mark.parametrize(
    "words", ["Failed to allocate memory for requested buffer of size 1", "CUDA failure 2: out of memory"]
)
def test_out_of_memory_frees_all_and_the_next_frame_works(words: str, gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    full = []

    def run(options: dict[str, str], shape: tuple[int, ...]) -> None:
        if full:
            raise RuntimeError(words)

    module, frame = gpu(run=run), bench_frame((48, 64))
    with on_gpu() as stylizer:
        stylizer.run(bench_frame((32, 64)))
        kept = stylizer.run(frame)
        full.append(True)
        for size in ((48, 64), (64, 64)):  # in a size that ran, and in a new one
            with pytest.raises(DeviceError, match=r"(?i)memory|allocate(.|\n)*smaller frames"):
                stylizer.run(bench_frame(size))
            gc.collect()
            assert not module.living
        full.clear()
        np.testing.assert_array_equal(stylizer.run(frame), kept)
    assert set(variants(module)) == {GRAPHS[0]}, "want of memory is no reason to go without a graph"


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


# Runs in place


def test_runs_in_place_are_counted_and_change_nothing(gpu: Callable[..., OnnxRuntimeGpu]) -> None:
    gpu()
    for device in ("cpu", "cuda"):
        backend = OnnxRuntimeBackend(resolve(STYLE), device=device)
        assert backend.run_in_place(3) == [], "no frame yet"
        frame = bench_frame((48, 64))
        before = backend.infer(frame, 1.0)
        kept = before.copy()
        times = backend.run_in_place(7)
        assert len(times) == 7 and all(time > 0 for time in times)
        np.testing.assert_array_equal(before, kept)
        np.testing.assert_array_equal(backend.infer(frame, 1.0), kept)
        assert backend.cuda_graph is (True if device == "cuda" else None)
        backend.close()


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
