"""What only a GPU can prove. One command on a GPU machine: STYLESDK_REQUIRE_GPU=1 pytest -m gpu

With STYLESDK_REQUIRE_GPU set, a missing GPU fails instead of skipping, so that a job of skips cannot look green.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stylesdk import Stylizer
from stylesdk.live.scene import render_frame
from stylesdk.styles import resolve

pytestmark = pytest.mark.gpu


def differences(left: np.ndarray, right: np.ndarray) -> tuple[int, float]:
    difference = np.abs(left.astype(int) - right)
    return int(difference.max()), float(difference.mean())


def test_fp16_engine_has_the_pixels_of_the_fp32_onnx(tmp_path: Path) -> None:
    from styleexport.engine_from_onnx import engine_from_onnx
    from styleexport.export import fp16_model

    half = fp16_model(resolve("starry_night"), tmp_path, None)
    plan = tmp_path / "starry_night.plan"
    engine_from_onnx(half, plan, min_size=(480, 640), opt_size=(480, 640), max_size=(480, 640))
    frame = render_frame(0, 100, (480, 640))
    with Stylizer(plan) as engine, Stylizer("starry_night", device="cpu") as reference:
        for strength in (0.0, 0.5, 1.0):
            largest, mean = differences(engine.run(frame, strength), reference.run(frame, strength))
            assert largest <= 8 and mean <= 0.5


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from styleexport.engine_from_onnx import engine_from_onnx
    from styleexport.export import fp16_model

    folder = tmp_path_factory.mktemp("plan")
    half = fp16_model(resolve("starry_night.nano"), folder, None)
    engine_from_onnx(half, folder / "a.plan", min_size=(240, 320), opt_size=(480, 640), max_size=(720, 1280))
    return folder / "a.plan"


def test_stream_has_the_pixels_of_run_whatever_the_size(plan: Path) -> None:
    sizes = [(480, 640)] * 8 + [(720, 1280)] * 4 + [(240, 320), (480, 640), (480, 640)]
    frames = [render_frame(10 * index, 200, size) for index, size in enumerate(sizes)]
    with Stylizer(plan) as stylizer:
        wanted = [stylizer.run(frame) for frame in frames]
        for found, expected in zip(stylizer.stream(frames), wanted, strict=True):
            # By CUDA graph or not, in one place or the other: the same kernels.
            assert (found == expected).all()


def test_frames_of_torch_stay_on_the_gpu(plan: Path) -> None:
    import torch

    frame = render_frame(0, 100, (480, 640))
    with Stylizer(plan) as stylizer:
        wanted = stylizer.run(frame)
        side = torch.cuda.Stream()
        for stream in (torch.cuda.default_stream(), side):
            with torch.cuda.stream(stream):
                on_gpu = torch.zeros(480, 640, 3, dtype=torch.uint8, device="cuda")
                torch.cuda._sleep(20_000_000)  # so that reading too early would be seen
                on_gpu += torch.from_numpy(frame).cuda()
                styled = stylizer.run(on_gpu)
                shared = torch.from_dlpack(styled)
                assert shared.data_ptr() == styled.address
                assert (shared.cpu().numpy() == wanted).all()
        assert torch.as_tensor(styled, device="cuda").data_ptr() == styled.address
    assert (shared.cpu().numpy() == wanted).all()


def test_onnxruntime_on_cuda_has_the_pixels_of_the_cpu() -> None:
    frame = render_frame(0, 100, (480, 640))
    with Stylizer("starry_night", device="cuda") as cuda, Stylizer("starry_night", device="cpu") as cpu:
        assert "CUDA" in cuda.backend
        largest, mean = differences(cuda.run(frame), cpu.run(frame))
    assert largest <= 2 and mean <= 0.1


def test_trainer_runs_on_cuda(tmp_path: Path) -> None:
    import io

    import cv2
    import torch
    from rich.console import Console
    from safetensors.torch import save_file

    from styletrainer.config import config_from_dict
    from styletrainer.run.loop import train

    (tmp_path / "photos").mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), render_frame(10 * index, 100, (240, 320)))
    cv2.imwrite(str(tmp_path / "art.png"), render_frame(5, 100, (240, 320)))
    widths, weights, channels = [64, 64, 0, 128, 128, 0, 256, 256, 256, 256], {}, 3
    index = 0
    for width in widths:
        if width:
            weights[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
            weights[f"features.{index}.bias"] = torch.zeros(width)
            channels, index = width, index + 2
        else:
            index += 1
    save_file(weights, tmp_path / "vgg.safetensors")
    settings = {
        "artworks": [str(tmp_path / "art.png")],
        "photos": str(tmp_path / "photos"),
        "run": str(tmp_path / "run"),
        "vgg": [str(tmp_path / "vgg.safetensors")],
        "accelerator": "cuda",
        "steps": 10,
        "tick": 5,
    }
    folder = train(config_from_dict(settings, "test"), Console(file=io.StringIO()))
    assert (folder / "generator.safetensors").is_file()
