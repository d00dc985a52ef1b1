"""A training set that the test makes: photos, an artwork, and perceptual weights of the right shapes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from runs import Settings, small_run
from safetensors.torch import save_file

from styletrainer.perceptual import BLOCKS


def make_vgg(path: Path, width: int, convs: int = 8, seed: int = 0) -> Path:
    """VGG-19 weights up to the ``convs``-th convolution, random (He et al. 2015), torchvision's keys.

    ``width``: channels of the first block, 64 in the real one; with 16 the losses take a sixteenth of the time.
    """
    random = torch.Generator().manual_seed(seed)
    weights, channels, index, made = {}, 3, 0, 0
    for block, count in enumerate(BLOCKS):
        channels_out = min(width * 2**block, 8 * width)
        for _ in range(count):
            if made == convs:
                break
            scale = (2 / (channels * 9)) ** 0.5
            weights[f"features.{index}.weight"] = scale * torch.randn(channels_out, channels, 3, 3, generator=random)
            weights[f"features.{index}.bias"] = torch.zeros(channels_out)
            channels, index, made = channels_out, index + 2, made + 1
        index += 1
    save_file(weights, path)
    return path


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with photos/ (six pictures), artwork.png (300x260), vgg.safetensors (to relu3_4, narrow), and so
    vgg_full.safetensors."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "photos").mkdir()
    random = np.random.default_rng(1)
    for index in range(6):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(
            str(folder / "photos" / f"{index}.png"),
            cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC),
        )
    strokes = cv2.resize(random.integers(0, 256, (65, 75, 3), dtype=np.uint8), (300, 260))
    cv2.imwrite(str(folder / "artwork.png"), strokes)
    make_vgg(folder / "vgg.safetensors", 16)
    make_vgg(folder / "vgg_full.safetensors", 64)
    return folder


@pytest.fixture
def settings(material: Path, tmp_path: Path) -> Settings:
    return small_run(material, tmp_path / "run")
