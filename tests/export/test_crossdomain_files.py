"""The cross-domain stylizer as files: any picture's style through the SDK, norms in fp32, TensorRT plans."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

import stylesdk
from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.export import export_onnx
from styleexport.onnx_from_checkpoint import contract_from_generator, generator_from_run
from styleexport.verify import Sample, compare, run_torch
from stylesdk import Stylizer
from styletrainer.config import config_from_dict
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import save_checkpoint

TINY = {"code": 16, "width": 8, "deep": 16, "depth": 2, "tail": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two artworks, its weights random."""
    folder = tmp_path_factory.mktemp("runs") / "any"
    folder.mkdir()
    values = {"artworks": ["wave.jpg", "scream.jpg"], "photos": "nowhere", "run": str(folder)}
    config = config_from_dict(values | {"recipe": "crossdomain", "generator_options": TINY}, "the test")
    torch.manual_seed(0)
    generator = build_generator(config.generator, config.all_generator_options())
    generator.get_buffer("named").copy_(torch.randn(2, 16))
    generator.get_buffer("short_side").fill_(96)
    config.save(folder / "config.json")
    save_checkpoint(folder, {}, generator)
    return folder


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files")
    export_onnx(run, out)  # which verifies each of them against torch
    return out


@pytest.mark.parametrize("file", ["any.onnx", "any.fp16.onnx"])
def test_the_style_of_a_picture_that_training_never_saw(run: Path, files: Path, file: str) -> None:
    """Encoder and stylizer as files give what the generator gives in torch; names and mixes go on working."""
    generator, config = generator_from_run(run)
    assert config.styles == ("wave", "scream")
    random = np.random.default_rng(0)
    frame, picture = (
        np.asarray(cv2.resize(random.integers(0, 256, (9, 12, 3), dtype=np.uint8), size), np.uint8)
        for size in ((100, 75), (250, 180))
    )
    rgb = torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)))[None] / 255
    with torch.no_grad():
        code = generator.encoder()(rgb).numpy()  # type: ignore[operator]
    contract = contract_from_generator(generator)
    wanted = run_torch(contract, Sample(frame, code=code))
    named = run_torch(contract, Sample(frame, code=generator.codes()[1].numpy()))  # type: ignore[operator]
    np.testing.assert_allclose(stylesdk.encode(picture, files / file), code, rtol=0, atol=1e-4)
    with Stylizer(files / file, runtime="onnxruntime") as stylizer:
        assert compare([wanted], [stylizer.run(frame, style=picture)]).max <= (1 if file == "any.onnx" else 4)
        assert compare([named], [stylizer.run(frame, style="scream")]).max <= (1 if file == "any.onnx" else 4)
    assert compare([wanted], [named]).mean > 2


def test_norms_are_in_fp32_in_the_fp16_file(files: Path) -> None:
    graph = onnx.load(files / "any.fp16.onnx").graph
    made = {name: node for node in graph.node for name in node.output}
    norms = [node for node in graph.node if node.op_type == "InstanceNormalization"]
    assert len(norms) == 3 + 2 + 2  # content encoder, transfer module, decoder
    for norm in norms:
        for name in norm.input:
            assert made[name].op_type == "Cast" and made[name].attribute[0].i == onnx.TensorProto.FLOAT
        (after,) = [node for node in graph.node if norm.output[0] in node.input]
        assert after.op_type == "Cast" and after.attribute[0].i == onnx.TensorProto.FLOAT16


def test_plans_of_stylizer_and_encoder(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    rtx = {"flavour": "tensorrt_rtx", "precision": "fp16"}
    small = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (48, 64)}
    made = engine_from_onnx(files / "any.onnx", tmp_path / "m.plan", **small, **rtx)
    assert made.precision == "fp16" and made.codes is not None and made.styles == ("wave", "scream")
    sizes = {"min_size": (64, 64), "opt_size": (384, 512), "max_size": (1024, 1024)}
    assert engine_from_onnx(files / "any.encoder.onnx", tmp_path / "e.plan", **sizes, **rtx).kind == "encoder"
