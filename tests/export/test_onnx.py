"""torch = ONNX = fp16 ONNX, any size, nothing of this machine inside."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from styleexport.cli import app
from styleexport.errors import ExportError
from styleexport.export import export_onnx, fp16_model, verification_samples
from styleexport.fp16_from_onnx import fp16_from_onnx
from styleexport.onnx_from_checkpoint import contract_from_generator, onnx_from_generator
from styleexport.origin import training_record
from styleexport.verify import TOLERANCES, Sample, Tolerance, compare, run_frames, run_torch, verify
from stylesdk import Manifest, Stylizer
from stylesdk.live.scene import render_frame
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from styletrainer.config import config_from_dict, config_from_run
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import save_checkpoint

OPTIONS = {
    "realtime": {"size": "nano"},
    "johnson": {"channels": 8, "n_blocks": 1},
    "unet": {"ngf": 8, "n_blocks": 1},
}


def make_generator(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_generator(name, OPTIONS[name]).eval()


def make_run(folder: Path, name: str, generator: nn.Module | None = None) -> Path:
    values = {"artworks": ["here/my_art.jpg"], "photos": "secret/place", "run": str(folder)}
    config = config_from_dict(values | {"generator": name, "generator_options": OPTIONS[name]}, "test")
    folder.mkdir()
    config.save(folder / "config.json")
    save_checkpoint(folder, {}, generator or make_generator(name))
    return folder


@pytest.mark.parametrize("name", list(OPTIONS))
def test_torch_equals_onnx_equals_fp16(tmp_path: Path, name: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(8):
        cv2.imwrite(str(photos / f"{index}.png"), render_frame(12 * index, 100, (96 + index, 128)))
    written = export_onnx(make_run(tmp_path / "run", name), tmp_path / "out", photos=photos)
    assert [path.name for path in written] == ["my_art.onnx", "my_art.fp16.onnx"]
    contract = contract_from_generator(make_generator(name))
    samples = verification_samples(photos, 1)
    wanted = [run_torch(contract, sample) for sample in samples]
    for path, limit, mean in zip(written, (1, 8), (0.02, 0.5), strict=True):
        found = compare(wanted, run_frames(path.read_bytes(), samples))
        assert found.max <= limit and found.mean <= mean
        assert found == written[path]


@functools.cache
def realtime() -> tuple[nn.Module, bytes]:
    """A generator and its file, for tests that only read them."""
    generator = make_generator("realtime")
    manifest = Manifest(name="x", styles=("x",), stride=8, precision="fp32", licence="Apache-2.0")
    return generator, onnx_from_generator(generator, manifest)


@pytest.mark.parametrize("size", [(64, 64), (479, 641), (17, 33), (100, 16)])
def test_any_size_in_same_size_out(size: tuple[int, int]) -> None:
    generator, data = realtime()
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = run_frames(data, [Sample(frame)])
    assert found[0].shape == frame.shape
    verify([run_torch(contract_from_generator(generator), Sample(frame))], found, "fp32", "ONNX")
    np.testing.assert_array_equal(run_frames(data, [Sample(frame, 0.0)])[0], frame)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run's files in fp32 and fp16, for tests that only read them."""
    folder = tmp_path_factory.mktemp("exported")
    return list(export_onnx(make_run(folder / "run", "realtime"), folder / "out", name="mine", licence="CC0"))


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_name_that_is_none_of_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="expected: that of a file, without a folder"):
        export_onnx(tmp_path / "run", tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


def test_the_last_whole_line_of_the_figures_is_recorded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "realtime")
    assert training_record(run, config_from_run(run))["result"] == {}
    (run / "stats.jsonl").write_text('{"step": 5, "content": 0.5}\n{"step": 10, "conte')  # a kill, a full disk
    assert training_record(run, config_from_run(run))["result"] == {"step": 5, "content": 0.5}


def test_file_has_the_contract_and_no_local_path(exported: list[Path]) -> None:
    for file, precision in zip(exported, ("fp32", "fp16"), strict=True):
        data = file.read_bytes()
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        inputs = {i.name: i.type.tensor_type for i in model.graph.input}
        assert inputs["frame"].elem_type == onnx.TensorProto.UINT8
        assert [d.dim_param or d.dim_value for d in inputs["frame"].shape.dim] == [1, "height", "width", 3]
        assert inputs["strength"].elem_type == onnx.TensorProto.FLOAT
        for secret in (
            b"secret/place",
            str(exported[0].parents[1]).encode(),
            str(Path.home()).encode() + b"/",
            b"site-packages",
            b".py",
        ):
            assert secret not in data, secret
        manifest = manifest_from_onnx(data, "x")
        assert (manifest.name, manifest.precision, manifest.licence) == ("mine", precision, "CC0")
        assert manifest.training["artworks"] == ["my_art.jpg"]
        floats = [i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT]
        assert bool(floats) == (precision == "fp32")
        convs = [n for n in model.graph.node if n.op_type == "Conv"]
        assert len(convs) == 14  # one a layer: the branches are folded


def test_several_styles_in_one_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = build_generator("realtime", {"size": "nano", "styles": 3})
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) if name.endswith("affine") else 0)
    run = tmp_path / "three"
    config = config_from_dict(
        {"artworks": ["a.jpg", "b.jpg", "c.jpg"], "styles": ["a", "b", "c"], "photos": "p", "run": str(run)}
        | {"generator_options": {"size": "nano"}},
        "test",
    )
    run.mkdir()
    config.save(run / "config.json")
    save_checkpoint(run, {}, generator)
    path, half = export_onnx(run, tmp_path / "out")
    assert (path.name, half.name) == ("three.onnx", "three.fp16.onnx")
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for file, limit in ((path, 1), (half, 8)):
        with Stylizer(file) as stylizer:
            assert stylizer.styles == ("a", "b", "c")
            assert stylizer.manifest is not None and stylizer.manifest.reach == generator.reach
            for index, style in enumerate("abc"):
                single = contract_from_generator(generator.single(index))  # type: ignore[operator]
                found = compare([run_torch(single, Sample(frame))], [stylizer.run(frame, style=style)])
                # Folding a style into the kernels rounds other numbers than folding the network does.
                assert found.max <= limit + 2 and found.mean < 1, (file, style, found)
            assert not np.array_equal(stylizer.run(frame, style="a"), stylizer.run(frame, style="b"))


def test_kernels_take_half_the_room(exported: list[Path]) -> None:
    path = exported[0]
    model = onnx.load_model_from_string(path.read_bytes())
    kernels = [i for i in model.graph.initializer if len(i.dims) == 4]
    assert {i.data_type for i in kernels} == {onnx.TensorProto.FLOAT16}
    assert path.stat().st_size < 2.5 * sum(int(np.prod(i.dims)) for i in kernels)


def test_same_run_same_bytes(exported: list[Path], tmp_path: Path) -> None:
    again = export_onnx(exported[0].parents[1] / "run", tmp_path, name="mine", licence="CC0")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in exported]


def test_outside_the_tolerance_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 does differ a little: with no tolerance the export refuses it, and the fp32 file too."""
    monkeypatch.setitem(TOLERANCES, "fp16", Tolerance(max=0, mean=0))
    with pytest.raises(ExportError, match=r"fp16 ONNX(.|\n)*Nothing was written"):
        export_onnx(make_run(tmp_path / "run", "realtime"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weight_that_fp16_cannot_hold(tmp_path: Path) -> None:
    generator = make_generator("realtime")
    with torch.no_grad():
        generator.down.affine[:, 0].fill_(1e7)
    with pytest.raises(ExportError, match="what fp16 holds"):
        export_onnx(make_run(tmp_path / "run", "realtime", generator), tmp_path / "out", precisions=["fp16"])


def test_differences_are_in_8_bit_steps() -> None:
    left, right = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    right[0, 0, 0] = 12
    found = compare([left], [right])
    assert (found.max, found.mean, found.frames) == (12, 1.0, 1)
    with pytest.raises(ExportError, match="own size"):
        compare([left], [right[:1]])


def test_no_run_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"no config\.json"):
        export_onnx(tmp_path, tmp_path / "out")


def test_fp16_of_an_fp16_file_is_refused_and_passed_through(exported: list[Path], tmp_path: Path) -> None:
    half = exported[1]
    with pytest.raises(ExportError, match="precision fp16"):
        fp16_from_onnx(half.read_bytes(), "x")
    assert fp16_model(half, tmp_path / "other", None) == half


@pytest.mark.parametrize(
    ("file", "precisions"), [(0, ["fp32"]), (0, ["fp16", "fp32"]), (1, ["fp16"]), (1, []), (1, ["int8"])]
)
def test_a_file_is_no_conversion_of_itself(
    exported: list[Path], tmp_path: Path, file: int, precisions: list[str]
) -> None:
    words = [str(exported[file]), "-o", str(tmp_path / "out"), *(w for p in precisions for w in ("--precision", p))]
    with pytest.raises(ExportError, match=r"which is fp(32|16); expected: fp16 or int8 of an fp32 file"):
        app(words, standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_an_onnx_file_becomes_fp16_where_nothing_is_asked(exported: list[Path], tmp_path: Path) -> None:
    app([str(exported[0]), "-o", str(tmp_path)], standalone_mode=False)
    assert [path.suffixes for path in tmp_path.iterdir()] == [[".fp16", ".onnx"]]


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(ExportError, match=r"File exists|Not a directory"):
        export_onnx(make_run(tmp_path / "run", "realtime"), tmp_path / "out")


def test_shipped_fp16_on_twenty_photos(shared: Path, tmp_path: Path) -> None:
    """fp16 against fp32 of every bundled fp32 style: mean at most 0.5, maximum at most 8, of 255."""
    photos = sorted((shared / "assets/photos").glob("*.jpg"))[::20][:20]
    frames = [Sample(np.asarray(cv2.imread(str(path)), np.uint8)) for path in photos]
    assert len(frames) == 20
    path = resolve("starry_night")
    half = fp16_from_onnx(path.read_bytes(), "starry_night")
    difference = compare(run_frames(path.read_bytes(), frames), run_frames(half, frames))
    assert difference.mean <= 0.5 and difference.max <= 8, difference
    (tmp_path / "half.onnx").write_bytes(half)
    with Stylizer(tmp_path / "half.onnx") as stylizer:
        assert stylizer.run(frames[0].frame).shape == frames[0].frame.shape
