"""What onnxruntime's GPU provider is told, what it refuses, and what becomes of it: never a silent CPU."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime_gpu_cases
import pytest
from onnxruntime_gpu_cases import GRAPHS, STYLE, on_cpu, on_gpu, variants
from pretend_onnxruntime import CPU, CUDA, OnnxRuntimeGpu

from styleexport.fp16_from_onnx import sealed
from stylesdk import DeviceError, ModelFileError
from stylesdk.backends.onnxruntime import OnnxRuntimeBackend
from stylesdk.bench import bench_frame
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from tiny_models import painting_onnx

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
    assert [warning.filename for warning in caught] == [onnxruntime_gpu_cases.__file__]
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
