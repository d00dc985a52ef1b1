"""onnxruntime on the CPU, and its GPU path with the CPU in the GPU's place. Never a speed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime_gpu_cases import GRAPHS, STYLE, on_cpu, on_gpu, variants
from pretend_onnxruntime import OnnxRuntimeGpu

from stylesdk.backends.onnxruntime import OnnxRuntimeBackend
from stylesdk.backends.onnxruntime_sized import Gate
from stylesdk.bench import bench_frame
from stylesdk.styles import resolve
from tiny_models import painting_onnx

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
