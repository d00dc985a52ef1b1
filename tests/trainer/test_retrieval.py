"""Which style suits a photo: descriptors, classes, and the generator's chooser as a graph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from graphs import save_onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from styletrainer.data.crops import tensor_from_rgb
from styletrainer.errors import TrainError
from styletrainer.generators.paired import Paired
from styletrainer.pairs.descriptors import Descriptor, global_descriptor, local_descriptors, squeezed
from styletrainer.pairs.retrieval import classes_of, styles_of_classes
from styletrainer.perceptual import load_weight_sets

KINDS = ("stripes", "blobs", "noise")


def textured(kind: str, seed: int) -> Tensor:
    """A photo (3, H, W) of some kind, in colours and of a size of its own."""
    random = np.random.default_rng(seed)
    height, width = random.integers(90, 160, 2)
    rows, columns = np.mgrid[:height, :width]
    if kind == "stripes":
        grey = np.sin((rows * random.uniform(0.8, 1.2) + columns * random.uniform(-0.2, 0.2)) / 2) > 0
    elif kind == "blobs":
        grey = cv2.resize(random.random((5, 6)), (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
    else:
        grey = random.random((height, width))
    colours = random.integers(0, 256, (2, 3))
    mixed = colours[0] + np.asarray(grey, float)[..., None] * (colours[1] - colours[0].astype(float))
    return tensor_from_rgb(mixed.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def descriptor(material: Path) -> Descriptor:
    found = Descriptor("vgg19")
    found.load(load_weight_sets([material / "vgg_full.safetensors"]))
    return found


def described(descriptor: Descriptor, photos: list[Tensor]) -> NDArray[np.float64]:
    with torch.no_grad():
        return torch.cat([descriptor(photo[None]) for photo in photos]).double().numpy()


def test_descriptors_by_hand() -> None:
    activations = torch.rand(2, 256, 28, 28)
    local, whole = local_descriptors(activations), global_descriptor(activations)
    assert local.shape == (2, 196, 256) and whole.shape == (2, 512)
    torch.testing.assert_close(local[1, 15], activations[1, :, 2:4, 2:4].mean((1, 2)))  # row 1, column 1 of 14
    statistics = torch.cat([activations[0].mean((1, 2)), activations[0].std((1, 2), correction=0)])
    torch.testing.assert_close(whole[0], statistics / statistics.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(global_descriptor(7 * activations), whole, rtol=1e-4, atol=1e-5)


def test_descriptor_does_not_depend_on_the_resolution(descriptor: Descriptor) -> None:
    small = textured("blobs", 3)[None]
    large = torch.nn.functional.interpolate(small, scale_factor=3.0, mode="bicubic", antialias=True)
    ours, theirs, other = (described(descriptor, [x])[0] for x in (small[0], large[0], textured("noise", 4)))
    assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(ours - other)


class Squeezed(nn.Module):
    def forward(self, photo: Tensor) -> Tensor:
        return squeezed(photo)


def test_a_photo_is_squeezed_without_aliasing_and_the_same_in_onnx(tmp_path: Path) -> None:
    save_onnx(Squeezed(), {"photo": torch.rand(1, 3, 70, 90)}, tmp_path / "squeezed.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "squeezed.onnx"), providers=["CPUExecutionProvider"])
    for height, width in ((60, 112), (333, 900)):
        photo = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        wanted = F.interpolate(photo, size=(112, 112), mode="bilinear", align_corners=False, antialias=True)
        torch.testing.assert_close(squeezed(photo), wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(session.run(None, {"photo": photo.numpy()})[0], wanted, rtol=0, atol=1e-5)
    stripes = (torch.arange(1000) % 2).float().expand(1, 3, 300, 1000)
    assert (squeezed(stripes)[..., 1:-1] - 0.5).abs().max() < 0.02, "stripes of a pixel are grey from afar"


def test_retrieval_finds_the_class_of_labelled_photos(shared: Path) -> None:
    """Eight photos a kind, clustered without a label; then ten others of each kind find the kind's style."""
    descriptor = Descriptor("vgg19")
    descriptor.load(load_weight_sets([shared / "assets/perceptual/vgg19_to_relu3_4.safetensors"]))
    collection = described(descriptor, [textured(kind, seed) for kind in KINDS for seed in range(8)])
    found = classes_of(collection, 3)
    assert [len(set(of)) for of in found.members.reshape(3, 8)] == [1, 1, 1], "a class is one kind"
    suited = styles_of_classes(found.members, range(24), [n // 8 for n in range(24)], [1.0] * 24)
    queries = [textured(kind, 100 + seed) for kind in KINDS for seed in range(10)]
    styles = np.array(suited)[found.nearest(described(descriptor, queries))].reshape(3, 10)
    assert ((styles == np.arange(3)[:, None]).sum(1) >= 9).all(), styles


def test_classes_of_fewer_pictures_than_classes() -> None:
    assert classes_of(np.eye(2), 8).members.max() == 1
    alone = classes_of(np.ones((1, 4)), 8)
    assert alone.nearest(np.zeros((3, 4))).tolist() == [0, 0, 0]


def test_a_class_takes_the_style_of_most_similarity() -> None:
    members = np.array([0, 0, 1])
    pairs = [(0, 0, 0.9), (1, 1, 0.5), (1, 1, 0.3), (2, 0, 0.1), (2, 1, 0.2)]  # source, style, similarity
    assert styles_of_classes(members, *zip(*pairs, strict=True)) == [0, 1]  # 0.9 > 0.8; 0.1 < 0.2


def test_descriptor_needs_a_file_that_goes_deep_enough(descriptor: Descriptor) -> None:
    with pytest.raises(TrainError, match=r"weights without relu3_3.*\n.*deeper file"):
        Descriptor("vgg19").load([{"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}])


def test_chooser_chooses_by_content_and_is_the_same_in_onnx(descriptor: Descriptor, tmp_path: Path) -> None:
    collection = described(descriptor, [textured(kind, seed) for kind in KINDS for seed in range(6)])
    classes = classes_of(collection, 5)
    suited = styles_of_classes(classes.members, range(18), [n // 6 for n in range(18)], [1.0] * 18)
    generator = Paired(channels=4, n_blocks=1, code=5, styles=3, classes=5, network="vgg19")
    generator.descriptor.load_state_dict(descriptor.state_dict())
    codes = torch.randn(3, 5)
    generator.remember(codes, classes, suited)
    torch.testing.assert_close(generator.codes(), codes)

    save_onnx(generator.chooser(), {"photo": torch.rand(1, 3, 70, 90)}, tmp_path / "chooser.onnx")
    onnx.checker.check_model(str(tmp_path / "chooser.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "chooser.onnx"), providers=["CPUExecutionProvider"])
    chosen = set()
    for photo in [textured(kind, seed) for kind in KINDS for seed in range(50, 54)]:
        expected = suited[int(classes.nearest(described(descriptor, [photo]))[0])]
        with torch.no_grad():
            ours = generator.chooser()(photo[None])
        torch.testing.assert_close(ours, codes[expected])
        theirs = session.run(None, {"photo": photo[None].numpy()})[0]
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-6)
        chosen.add(expected)
    assert len(chosen) > 1


def test_chooser_and_generator_build_as_plans(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    generator = Paired(channels=4, n_blocks=1, code=5, styles=3, classes=5, network="vgg19")
    save_onnx(generator.chooser(), {"photo": torch.rand(1, 3, 70, 90)}, tmp_path / "chooser.onnx")
    inputs = {"photo": torch.rand(1, 3, 64, 48), "style": torch.zeros(5)}
    save_onnx(generator.fold(), inputs, tmp_path / "generator.onnx")
    for name in ("chooser", "generator"):
        builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, trt.Logger(trt.Logger.INTERNAL_ERROR))
        parsed = parser.parse((tmp_path / f"{name}.onnx").read_bytes())
        assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape("photo", (1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 128, 128))
        config.add_optimization_profile(profile)
        assert builder.build_serialized_network(network, config) is not None, name
