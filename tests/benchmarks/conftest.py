"""The benchmarks are scripts that import their neighbours by name; so do their tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from textures import texture

from styletrainer.perceptual import NAMES, _feature_index


@pytest.fixture
def moving() -> list[np.ndarray]:
    """A camera that moves 2 pixels a frame along a wall, 96x128, 12 frames."""
    wall = texture(96, 160)
    return [np.ascontiguousarray(wall[:, 2 * t : 2 * t + 128]) for t in range(12)]


@pytest.fixture(scope="session")
def thin_vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-19 weights to relu5_1 with 8 channels a layer, random (He et al. 2015)."""
    random = torch.Generator().manual_seed(0)
    weights, channels = {}, 3
    for name in NAMES[:13]:
        key = f"features.{_feature_index(name)}"
        weights[f"{key}.weight"] = (2 / (channels * 9)) ** 0.5 * torch.randn(8, channels, 3, 3, generator=random)
        weights[f"{key}.bias"] = torch.zeros(8)
        channels = 8
    path = tmp_path_factory.mktemp("vgg") / "thin.safetensors"
    save_file(weights, path)
    return path
