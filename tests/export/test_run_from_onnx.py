"""From a model file back to a run: the same pictures, ready to learn further, nothing overwritten."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from test_onnx import make_run
from torch import Tensor
from typer.testing import CliRunner

from styleexport.errors import ExportError
from styleexport.export import export_onnx
from styleexport.fp16_from_onnx import sealed
from styleexport.import_cli import app
from styleexport.onnx_from_checkpoint import contract_from_generator, generator_from_run
from styleexport.origin import licence_of, training_record
from styleexport.run_from_onnx import run_from_onnx
from styleexport.verify import run_frames, run_torch, verification_samples
from stylesdk import ModelFileError
from stylesdk.live.scene import render_frame
from stylesdk.manifest import read_model_file
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from styletrainer.config import config_from_dict, config_from_run
from styletrainer.errors import TrainError
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


@pytest.mark.parametrize(("styles", "furthest"), [(1, 1.001), (3, 1.415)])
def test_unfolded_filters_begin_anew(styles: int, furthest: float) -> None:
    """Steps of one size need filters of one size."""
    found = Realtime("nano", styles)
    unfold(found, folded_layers(trained(styles)), [torch.rand(1, 3, 64, 64)])
    for conv in layers_of(found).values():
        if conv.normalised:
            norms = conv.direction.square().sum((1, 2, 3)).sqrt()
            assert 1 / furthest <= norms.min() and norms.max() <= furthest


@pytest.mark.parametrize("styles", [1, 3])
def test_nothing_is_rounded_twice(styles: int) -> None:
    """Folded again, kernels are those of the file: a style that is added leaves the others as they were."""
    wanted = folded_layers(trained(styles))
    found = Realtime("nano", styles)
    unfold(found, wanted, [torch.rand(1, 3, 64, 64)])
    for name, (kernel, _) in folded_layers(found).items():
        assert torch.equal(kernel, wanted[name][0]) or styles == 1, name
        torch.testing.assert_close(kernel, wanted[name][0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("style", ["starry_night.nano", "six"])
def test_a_shipped_style_comes_back(tmp_path: Path, photos: Path, style: str) -> None:
    run_from_onnx(resolve(style), tmp_path / "run", photos)
    generator, config = generator_from_run(tmp_path / "run")
    assert config.styles == (
        manifest_from_onnx(read_model_file(resolve(style)), style).styles if style == "six" else ()
    )
    samples = verification_samples(photos, max(len(config.styles), 1))
    frames = run_frames(read_model_file(resolve(style)), samples)
    contract = contract_from_generator(generator)
    for sample, frame in zip(samples, frames, strict=True):
        difference = np.abs(run_torch(contract, sample).astype(int) - frame)
        assert difference.max() <= 1 and difference.mean() < 0.05


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


def test_licence_and_name_stay(tmp_path: Path, photos: Path) -> None:
    run = make_run(tmp_path / "first", "realtime")
    export_onnx(run, tmp_path / "out", name="mine.nano", licence="CC-BY-NC-4.0", photos=photos, precisions=["fp32"])
    again = tmp_path / "again"
    run_from_onnx(tmp_path / "out" / "mine.nano.onnx", again, photos)
    onward = make_run(tmp_path / "onward", "realtime")
    config = json.loads((onward / "config.json").read_text()) | {"start": str(again)}
    (onward / "config.json").write_text(json.dumps(config))
    [same] = export_onnx(again, tmp_path / "same", photos=photos, precisions=["fp32"])
    [later] = export_onnx(onward, tmp_path / "later", photos=photos, precisions=["fp32"])
    found = [manifest_from_onnx(path.read_bytes(), "test") for path in (same, later)]
    assert [each.licence for each in found] == ["CC-BY-NC-4.0"] * 2
    assert (same.name, later.name) == ("mine.nano.onnx", "my_art.onnx")
    assert licence_of(run) == "Apache-2.0"


def test_a_folder_that_is_called_like_an_earlier_run_is_not_one(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_from_onnx(resolve("wave.nano"), tmp_path / "run", photos)
    config = config_from_run(tmp_path / "run")
    wanted = training_record(tmp_path / "run", config)
    assert config.start
    other = make_run(tmp_path / config.start, "realtime")
    (other / "stats.jsonl").write_text('{"step": 1}\n')
    monkeypatch.chdir(tmp_path)
    assert training_record(tmp_path / "run", config) == wanted


def test_refuses_what_cannot_be_trained_further(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ExportError, match="int8, generator realtime; expected: the fp32 file of a realtime"):
        run_from_onnx(resolve("wave.nano.int8"), out, photos)
    johnson = export_onnx(make_run(tmp_path / "j", "johnson"), tmp_path / "j_out", photos=photos)
    with pytest.raises(ExportError, match=r"fp32, generator johnson; expected: (.|\n)*Do this: "):
        run_from_onnx(next(iter(johnson)), out, photos)
    with pytest.raises(ExportError, match=r"wave\.plan; expected: a bundled style or an ONNX file"):
        run_from_onnx(tmp_path / "wave.plan", out, photos)
    with pytest.raises(ModelFileError, match=r"got: .*nothing\.onnx"):
        run_from_onnx(tmp_path / "nothing.onnx", out, photos)
    with pytest.raises(TrainError, match="nothing"):
        run_from_onnx(resolve("wave.nano"), out, tmp_path / "nothing")
    assert not out.exists()
    out.write_text("a file")
    with pytest.raises(ExportError, match="expected: a folder for the files"):
        run_from_onnx(resolve("wave.nano"), out, photos)
    assert out.read_text() == "a file"


def test_refuses_a_model_of_other_settings(tmp_path: Path, photos: Path) -> None:
    model = onnx.load(str(resolve("wave.nano")))
    manifest = manifest_from_onnx(resolve("wave.nano").read_bytes(), "wave.nano")
    later = dataclasses.replace(manifest, training=manifest.training | {"of_next_year": 1})
    (tmp_path / "later.onnx").write_bytes(sealed(model, later))
    with pytest.raises(ExportError, match=r"of_next_year: unknown(.|\n)*Do this: use the version of stylesdk"):
        run_from_onnx(tmp_path / "later.onnx", tmp_path / "out", photos)
    assert not (tmp_path / "out").exists()


def test_leaves_a_run_that_is_there_alone(tmp_path: Path, photos: Path) -> None:
    run = make_run(tmp_path / "run", "realtime")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ExportError, match=r"got: .*run, which holds a run; expected: a new folder"):
        run_from_onnx(resolve("wave.nano"), run, photos)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("style", "following"),
    [("wave.nano", "--start {run} --size nano --stage finish"), ("six", "--add-to {run}")],
)
def test_command_says_what_comes_next(tmp_path: Path, photos: Path, style: str, following: str) -> None:
    run = tmp_path / "run"
    result = CliRunner().invoke(app, [style, "-o", str(run), "--photos", str(photos)])
    assert result.exit_code == 0
    said = result.output.replace("\n", "").partition("Next: stylesdk train ")[2]
    assert said.endswith(following.format(run=run))
    # And it holds.
    from styletrainer.cli import app as train

    settings = CliRunner().invoke(train, [*shlex.split(said), "--dry-run"], catch_exceptions=False)
    assert json.loads(settings.output)["start"] == str(run)


def test_command_takes_whole_models(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ExportError, match=r"got: six:wave; expected: a whole model(.|\n)*give six; all"):
        line = ["six:wave", "-o", str(tmp_path), "--photos", str(photos)]
        CliRunner().invoke(app, line, catch_exceptions=False)
