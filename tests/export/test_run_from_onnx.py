"""From a model file back to a run: the same pictures, ready to learn further, nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_onnx import make_run
from torch import Tensor
from typer.testing import CliRunner

from styleexport.errors import ExportError
from styleexport.export import export_onnx, training_record
from styleexport.import_cli import app
from styleexport.onnx_from_checkpoint import contract_from_generator, generator_from_run
from styleexport.run_from_onnx import run_from_onnx
from styleexport.verify import run_frames, run_torch, verification_samples
from stylesdk import ModelFileError
from stylesdk.live.scene import render_frame
from stylesdk.manifest import read_model_file
from stylesdk.styles import resolve
from styletrainer.config import config_from_dict, config_from_run
from styletrainer.errors import TrainError
from styletrainer.generators.branches import BranchedConv
from styletrainer.generators.realtime import Realtime
from styletrainer.generators.unfolding import layers_of, unfold
from styletrainer.run.checkpoint import save_checkpoint
from styletrainer.run.start import begin_with


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), render_frame(15 * index, 100, (240, 320)))
    return folder


def trained(styles: int) -> Realtime:
    """A network in which nothing is as it was at the start."""
    torch.manual_seed(3)
    generator = Realtime("nano", styles)
    with torch.no_grad():
        for conv in layers_of(generator).values():
            conv.direction.mul_(torch.rand_like(conv.direction) + 0.5)
            conv.affine.add_(0.2 * torch.randn_like(conv.affine))
            if conv.point is not None:
                conv.point.add_(0.02 * torch.randn_like(conv.point))
            if conv.normalised:
                conv.get_buffer("mean").normal_(0, 0.1)
                conv.get_buffer("variance").uniform_(0.5, 2)
    return generator.eval()


def folded_layers(generator: Realtime) -> dict[str, tuple[Tensor, Tensor]]:
    """Kernel and table of every layer of its folded form, as a file holds them."""
    found = {}
    for name, conv in generator.fold().named_modules():
        if hasattr(conv, "table"):
            table = torch.stack([torch.ones_like(conv.bias), conv.bias])[None] if conv.table is None else conv.table
            found[name] = conv.weight.detach(), table.detach()
    return found


@pytest.mark.parametrize("styles", [1, 3])
def test_unfold_is_fold_the_other_way_round(styles: int) -> None:
    wanted, photo = trained(styles), torch.rand(2, 3, 64, 96)
    found = Realtime("nano", styles)
    unfold(found, folded_layers(wanted), [photo])
    for style in torch.eye(styles) if styles > 1 else [None]:
        with torch.no_grad():
            torch.testing.assert_close(found(photo, style), wanted(photo, style), rtol=0, atol=2e-3)  # halved kernels


@pytest.mark.parametrize("styles", [1, 3])
def test_unfolded_statistics_are_those_of_the_photos(styles: int) -> None:
    """A batch that they were measured on looks the same in training, where it is normalised by its own."""
    photo = torch.rand(2, 3, 64, 96)
    found = Realtime("nano", styles)
    unfold(found, folded_layers(trained(styles)), [photo[:1], photo[1:]])
    for style in torch.eye(styles) if styles > 1 else [None]:
        with torch.no_grad():
            wanted = found.eval()(photo, style)
            torch.testing.assert_close(found.train()(photo, style), wanted, rtol=0, atol=1e-3)


def test_unfolded_filters_begin_anew() -> None:
    """Steps of one size need filters of one size."""
    found = Realtime("nano")
    unfold(found, folded_layers(trained(1)), [torch.rand(1, 3, 64, 64)])
    for conv in layers_of(found).values():
        if conv.normalised:
            torch.testing.assert_close(conv.direction.square().sum((1, 2, 3)), torch.ones(conv.direction.shape[0]))


@pytest.mark.parametrize("style", ["starry_night.nano", "wave", "six"])
def test_a_shipped_style_comes_back(tmp_path: Path, photos: Path, style: str) -> None:
    run_from_onnx(resolve(style), tmp_path / "run", photos)
    generator, config = generator_from_run(tmp_path / "run")
    assert config.styles == (() if style != "six" else tuple(resolve_styles(style)))
    samples = verification_samples(photos, max(len(config.styles), 1))
    frames = run_frames(read_model_file(resolve(style)), samples)
    contract = contract_from_generator(generator)
    for sample, frame in zip(samples, frames, strict=True):
        difference = np.abs(run_torch(contract, sample).astype(int) - frame)
        assert difference.max() <= 1 and difference.mean() < 0.05


def resolve_styles(name: str) -> tuple[str, ...]:
    from stylesdk.onnx_file import manifest_from_onnx

    return manifest_from_onnx(read_model_file(resolve(name)), name).styles


def test_what_led_to_a_model_is_kept(tmp_path: Path, photos: Path) -> None:
    """Exported, imported, trained on, exported: the record names all runs, and the images that they saw."""
    first = make_run(tmp_path / "first", "realtime")
    (first / "stats.jsonl").write_text(json.dumps({"step": 70}) + "\n")
    export_onnx(first, tmp_path / "out", photos=photos, precisions=["fp32"])
    again = tmp_path / "again"
    run_from_onnx(tmp_path / "out" / "my_art.onnx", again, photos)
    assert training_record(again, config_from_run(again)) == training_record(first, config_from_run(first))
    values = {"artworks": ["here/new.jpg"], "photos": str(photos), "run": str(tmp_path / "on"), "start": str(again)}
    config = config_from_dict(values | {"generator_options": {"size": "nano"}}, "test")
    generator = Realtime("nano")
    begin_with(generator, config, again)
    (tmp_path / "on").mkdir()
    config.save(tmp_path / "on" / "config.json")
    save_checkpoint(tmp_path / "on", {}, generator)
    onward = training_record(tmp_path / "on", config)
    assert onward["before"]["result"] == {"step": 70} and onward["start"] == "again"
    run_from_onnx(next(iter(export_onnx(tmp_path / "on", tmp_path / "out", photos=photos))), tmp_path / "third", photos)
    third = training_record(tmp_path / "third", config_from_run(tmp_path / "third"))
    assert third["before"] == json.loads(json.dumps(onward["before"]))


def test_a_style_is_added_to_a_shipped_model_of_several(tmp_path: Path, photos: Path) -> None:
    run_from_onnx(resolve("six"), tmp_path / "run", photos)
    before, config = generator_from_run(tmp_path / "run")
    generator = Realtime("base", styles=7)
    values = {"artworks": ["new.jpg"], "photos": str(photos), "run": str(tmp_path / "new"), "new_style_only": True}
    values |= {"styles": [*config.styles, "new"], "generator_options": {"size": "base"}, "start": str(tmp_path / "run")}
    begin_with(generator, config_from_dict(values, "test"), tmp_path / "run")
    photo, first = torch.rand(1, 3, 64, 64), torch.eye(7)[0]
    with torch.no_grad():
        torch.testing.assert_close(generator.eval()(photo, first), before(photo, first[:6]), rtol=0, atol=1e-4)


def test_refuses_what_cannot_be_trained_further(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ExportError, match="int8, generator realtime; expected: the fp32 file of a realtime"):
        run_from_onnx(resolve("wave.nano.int8"), out, photos)
    johnson = export_onnx(make_run(tmp_path / "j", "johnson"), tmp_path / "j_out", photos=photos)
    with pytest.raises(ExportError, match=r"fp32, generator johnson; expected: (.|\n)*Do this: "):
        run_from_onnx(next(iter(johnson)), out, photos)
    with pytest.raises(ModelFileError, match=r"got: .*nothing\.onnx"):
        run_from_onnx(tmp_path / "nothing.onnx", out, photos)
    with pytest.raises(TrainError, match="nothing"):
        run_from_onnx(resolve("wave.nano"), out, tmp_path / "nothing")
    assert not out.exists()


def test_leaves_a_run_that_is_there_alone(tmp_path: Path, photos: Path) -> None:
    run = make_run(tmp_path / "run", "realtime")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ExportError, match=r"got: .*run, which holds a run; expected: a new folder"):
        run_from_onnx(resolve("wave.nano"), run, photos)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_command_says_what_comes_next(tmp_path: Path, photos: Path) -> None:
    result = CliRunner().invoke(app, ["wave.nano", "-o", str(tmp_path / "run"), "--photos", str(photos)])
    assert result.exit_code == 0
    assert f"--start {tmp_path / 'run'}" in result.output.replace("\n", "")
    assert isinstance(next(generator_from_run(tmp_path / "run")[0].children()), BranchedConv)
