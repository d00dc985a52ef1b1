"""VGG-19 by layer name, and where its weights come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from styletrainer.errors import TrainError
from styletrainer.perceptual import ENVIRONMENT, VGG, Perceptual, load_weight_sets


def test_vgg_follows_torchvisions_order(material: Path) -> None:
    """relu2_1 by hand: two convolutions, a pool, one convolution, with the ImageNet statistics first."""
    weights = load_file(material / "vgg_full.safetensors")
    picture = torch.rand(1, 3, 32, 32)
    x = (picture - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    for index in (0, 2):
        x = F.relu(F.conv2d(x, weights[f"features.{index}.weight"], padding=1))
    x = F.relu(F.conv2d(F.max_pool2d(x, 2), weights["features.5.weight"], padding=1))
    found = VGG(weights)(picture, ["relu2_1", "relu1_2"])
    torch.testing.assert_close(found["relu2_1"], x)
    assert found["relu1_2"].shape == (1, 64, 32, 32)


def test_layer_the_file_lacks_is_named(material: Path) -> None:
    with pytest.raises(TrainError, match=r"relu4_1.*\n?.*relu5_1|relu4_1, relu5_1"):
        Perceptual(["relu1_1", "relu4_1", "relu5_1"], load_weight_sets([material / "vgg.safetensors"]))


def test_missing_and_corrupt_weight_files(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no file"):
        load_weight_sets([tmp_path / "none.safetensors"])
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(TrainError, match="does not read as weights"):
        load_weight_sets([tmp_path / "bad.safetensors"])
    save_file({"body.0.weight": torch.zeros(1)}, tmp_path / "generator.safetensors")
    with pytest.raises(TrainError, match=r"generator.safetensors, whose weights are of another network(.|\n)*--vgg"):
        load_weight_sets([tmp_path / "generator.safetensors"])


def test_what_lies_beside_the_weights_is_no_mistake(material: Path, tmp_path: Path) -> None:
    shutil.copy(material / "vgg.safetensors", tmp_path)
    save_file({"body.0.weight": torch.zeros(1)}, tmp_path / "generator.safetensors")
    assert len(load_weight_sets([tmp_path / "vgg.safetensors"])) == 1


def test_environment_names_the_weights(material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(material / "vgg.safetensors"))
    assert "features.0.weight" in load_weight_sets()[0]


def test_gradient_reaches_the_picture_but_not_the_weights(material: Path) -> None:
    perceptual = Perceptual(["relu3_1"], load_weight_sets([material / "vgg.safetensors"]))
    picture = torch.rand(1, 3, 32, 32, requires_grad=True)
    perceptual(picture)["relu3_1"].mean().backward()
    assert picture.grad is not None and picture.grad.abs().max() > 0
    assert not any(p.requires_grad for p in perceptual.parameters())


def test_slim_network_serves_the_deep_layers(shared: Path) -> None:
    """The truncated VGG-19 alone: the slim network of the same folder is found, and agrees where both have a layer."""
    weight_sets = load_weight_sets([shared / "assets/perceptual/vgg19_to_relu3_4.safetensors"])
    picture = torch.rand(1, 3, 64, 64)
    found = Perceptual(["relu3_1", "relu4_1", "relu5_1"], weight_sets)(picture)
    assert {k: v.shape[1] for k, v in found.items()} == {"relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
    slim = Perceptual(["relu1_1"], weight_sets[1:])(picture)["relu1_1"]
    full = Perceptual(["relu1_1"], weight_sets[:1])(picture)["relu1_1"]
    inside = (..., slice(4, -4), slice(4, -4))
    assert torch.nn.functional.cosine_similarity(slim[inside].flatten(), full[inside].flatten(), 0) > 0.9
