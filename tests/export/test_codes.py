"""Networks whose style is a code: model, encoder and chooser as files; torch = ONNX = what the SDK draws; plans."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import styleexport.companions as companions
import stylesdk
from styleexport.batched_from_onnx import batched_from_onnx, run_batch
from styleexport.cli import app
from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.errors import ExportError
from styleexport.export import export_onnx, fp16_model, styles_of
from styleexport.fp16_from_onnx import fp16_from_onnx, sealed
from styleexport.int8_from_onnx import int8_from_onnx
from styleexport.onnx_from_checkpoint import contract_from_generator, generator_from_run, onnx_from_generator
from styleexport.triton_config import check_config, onnx_config
from styleexport.triton_repository import triton_repository
from styleexport.verify import Sample, compare, run_frames, run_torch, samples_of, verification_samples
from stylesdk import Manifest, Stylizer
from stylesdk.backends.triton import contract_tensors
from stylesdk.live.scene import render_frame
from stylesdk.manifest import manifest_from_json
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.palette import Palette
from styletrainer.config import config_from_dict
from styletrainer.generators import GENERATORS
from styletrainer.generators.frame_units import InFrameUnits
from styletrainer.run.checkpoint import save_checkpoint

C = 5
KINDS = ("encoder", "chooser")
SMALL = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (48, 64)}


class _Pooled(nn.Module):
    """A picture's pooled features, (K,)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, length)

    def forward(self, photo: Tensor) -> Tensor:
        found: Tensor = self.linear(F.relu(self.conv(photo)).mean((2, 3)))[0]
        return found


class _Chosen(nn.Module):
    """Mixes the codes of a table by what a picture's features are near to."""

    def __init__(self, pooled: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.pooled, self.table = pooled, table

    def forward(self, photo: Tensor) -> Tensor:
        near: Tensor = self.pooled(photo)[None].softmax(1)  # TensorRT knows no softmax of one axis
        return (near @ self.table)[0]


class Coded(nn.Module):
    """A convolution whose channels a code scales and shifts."""

    stride = 4
    margin = 4
    code = C

    def __init__(self, names: int = 3) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 48, 3, 1, 1)
        self.look = nn.Linear(C, 16)
        self.register_buffer("table", torch.randn(names, C))
        self.pooled, self.near = _Pooled(C), _Pooled(names)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = F.relu(self.look(style.reshape(-1, C)))[:, :, None, None].chunk(2, 1)
        return F.pixel_shuffle(self.up(F.relu(self.down(x)) * scale + shift), 4).sigmoid()

    def codes(self) -> Tensor:
        return self.table

    def encoder(self) -> nn.Module:
        return self.pooled

    def chooser(self) -> nn.Module:
        return _Chosen(self.near, self.table)

    def fold(self) -> nn.Module:
        return InFrameUnits(self)


class Mixing(nn.Module):
    """Weights of two styles, and a chooser that gives them."""

    stride = 1
    margin = 0
    styles = 2

    def __init__(self) -> None:
        super().__init__()
        self.look, self.pooled = nn.Parameter(torch.rand(2, 3)), _Pooled(2)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return x * (style @ self.look).view(1, 3, 1, 1)

    def chooser(self) -> nn.Module:
        return nn.Sequential(self.pooled, nn.Softmax(0))

    def fold(self) -> nn.Module:
        return InFrameUnits(self)


def make_run(folder: Path, monkeypatch: pytest.MonkeyPatch, artworks: tuple[str, ...], make: type = Coded) -> nn.Module:
    monkeypatch.setitem(GENERATORS, "coded", make)
    torch.manual_seed(0)
    options = {"names": len(artworks)}
    generator = make(**options).eval()
    values = {"artworks": list(artworks), "photos": "nowhere", "run": str(folder)}
    folder.mkdir()
    config = config_from_dict(values | {"generator": "coded", "generator_options": options}, "test")
    config.save(folder / "config.json")
    save_checkpoint(folder, {}, generator)
    return generator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of three artworks."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("runs") / "trio"
        make_run(folder, patch, ("art/a.jpg", "art/b.png", "c.jpg"))
        yield folder


@pytest.fixture(scope="module")
def generator(run: Path) -> nn.Module:
    return generator_from_run(run)[0]


@pytest.fixture(scope="module")
def files(run: Path) -> Path:
    """What the export makes of it; not to be changed."""
    export_onnx(run, run.parent / "out")
    return run.parent / "out"


def rgb(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture[:, :, ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None]


def test_four_files_that_draw_what_torch_draws(generator: nn.Module, files: Path, frame: np.ndarray) -> None:
    names = ["trio.chooser.onnx", "trio.encoder.onnx", "trio.fp16.onnx", "trio.onnx"]
    assert sorted(path.name for path in files.iterdir()) == names
    contract, table = contract_from_generator(generator), generator.codes().numpy()  # type: ignore[operator]
    picture = render_frame(7, 100, (97, 131))
    with torch.no_grad():
        encoded = generator.encoder()(rgb(picture)).numpy()  # type: ignore[operator]
        chosen = generator.chooser()(rgb(frame)).numpy()  # type: ignore[operator]
    for name, limit in (("trio.onnx", 1), ("trio.fp16.onnx", 8)):
        with Stylizer(files / name, device="cpu", runtime="onnxruntime") as stylizer:
            assert stylizer.styles == ("a", "b", "c")
            manifest = stylizer.manifest
            assert manifest is not None and manifest.codes is not None
            np.testing.assert_array_equal(np.array(manifest.codes, np.float32), table)
            asked = (
                ("b", table[1]),
                ({"a": 1, "c": 3}, 0.25 * table[0] + 0.75 * table[2]),
                (picture, encoded),
                ("auto", chosen),
            )
            for style, code in asked:
                for strength in (1.0, 0.5):
                    wanted = run_torch(contract, Sample(frame, strength, code=code))
                    assert compare([wanted], [stylizer.run(frame, strength, style)]).max <= limit, (name, style)
            assert compare([stylizer.run(frame, style="a")], [stylizer.run(frame, style="b")]).mean > 1


def test_the_encoder_takes_bgr_of_any_size(generator: nn.Module, files: Path) -> None:
    for size in ((16, 16), (97, 131), (300, 200)):
        picture = np.random.default_rng(0).integers(0, (256, 128, 20), (*size, 3), dtype=np.uint8)
        with torch.no_grad():
            wanted = generator.encoder()(rgb(picture)).numpy()  # type: ignore[operator]
        found = stylesdk.encode(picture, files / "trio.onnx")
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        assert np.abs(stylesdk.encode(picture[:, :, ::-1], files / "trio.onnx") - wanted).max() > 1e-3


def test_files_know_each_other_and_nothing_of_this_machine(files: Path) -> None:
    manifests = {path.name: manifest_from_onnx(path.read_bytes(), path.name) for path in files.iterdir()}
    for kind in KINDS:
        own = manifests[f"trio.{kind}.onnx"]
        assert (own.kind, own.precision, own.codes, own.companions) == (kind, "fp32", None, {})
        assert {m.companions[kind] for m in manifests.values() if m.companions} == {own.sha256}
        model = onnx.load_model_from_string((files / f"trio.{kind}.onnx").read_bytes())
        onnx.checker.check_model(model, full_check=True)
        (given,) = model.graph.input
        shape = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
        assert (given.name, shape) == ("frame", [1, "height", "width", 3])
        assert next(n for n in model.graph.node if "frame" in n.input and n.op_type != "Shape").op_type == "Cast"
    for path in files.iterdir():
        for secret in (str(files.parent).encode(), b"site-packages", b".py"):
            assert secret not in path.read_bytes()


def test_companions_are_the_same_files_whatever_they_are_verified_on(generator: nn.Module, files: Path) -> None:
    """So that the models of an earlier export accept those of a later one."""
    manifest = manifest_from_onnx((files / "trio.onnx").read_bytes(), "trio")
    again = dataclasses.replace(manifest, licence="CC-BY-4.0", companions={}, quality={})
    picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    made = companions.companions_from_generator(generator, again, [picture])
    for kind in KINDS:
        data, difference = made[kind]
        assert difference.pictures == 1 and difference.relative <= companions.TOLERANCE
        assert data == (files / f"trio.{kind}.onnx").read_bytes()


def test_one_style_is_called_like_its_artwork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", monkeypatch, ("art/night.jpg",))
    path = next(iter(export_onnx(tmp_path / "run", tmp_path / "out", precisions=["fp32"])))
    assert path.name == "night.onnx" and (tmp_path / "out/night.encoder.onnx").is_file()
    with Stylizer(path, device="cpu", runtime="onnxruntime") as stylizer:
        assert stylizer.styles == ("night",)
        stylizer.run(np.zeros((20, 20, 3), np.uint8), style=np.zeros(C, np.float32))


def test_a_chooser_of_mixing_weights(tmp_path: Path, frame: np.ndarray) -> None:
    torch.manual_seed(0)
    generator = Mixing().eval()
    manifest = Manifest("mix", ("a", "b"), 1, "fp32", "CC0")
    made = companions.companions_from_generator(generator, manifest, [frame])
    assert list(made) == ["chooser"]
    with torch.no_grad():
        wanted = generator.chooser()(rgb(frame)).numpy()
    (tmp_path / "mix.chooser.onnx").write_bytes(made["chooser"][0])
    sha = manifest_from_onnx(made["chooser"][0], "chooser").sha256
    (tmp_path / "mix.onnx").write_bytes(
        onnx_from_generator(generator, Manifest("mix", ("a", "b"), 1, "fp32", "CC0", companions={"chooser": sha}))
    )
    with Stylizer(tmp_path / "mix.onnx", device="cpu", runtime="onnxruntime") as stylizer:
        assert stylizer.choose(frame) == pytest.approx(dict(zip("ab", wanted.tolist(), strict=True)), abs=1e-5)
        by_hand = run_torch(contract_from_generator(generator), Sample(frame, style=wanted))
        assert compare([by_hand], [stylizer.run(frame, style="auto")]).max <= 1


def test_verification_sees_every_code_the_mean_of_two_and_half_the_strength() -> None:
    codes = ((1.0, 0.0), (0.0, 1.0), (5.0, 5.0))
    samples = verification_samples(None, 3, codes)
    asked = [(None if s.given is None else tuple(s.given.tolist()), s.strength) for s in samples]
    assert asked == [(c, 1.0) for c in codes for _ in "ab"] + [((0.5, 0.5), 1.0), ((0.5, 0.5), 0.5)]
    single = samples_of([np.zeros((384, 512, 3), np.uint8)] * 5, 1, codes[:1])
    assert {tuple(s.given.tolist()) for s in single if s.given is not None} == {(1.0, 0.0)}
    assert {s.strength for s in single} == {0.5, 1.0}


class _Wrong(Coded):
    def encoder(self) -> nn.Module:
        return _Pooled(C + 1)


class _Batched(Coded):
    def encoder(self) -> nn.Module:
        return nn.Sequential(self.pooled, nn.Unflatten(0, (1, C)))


class _NotFinite(Coded):
    def encoder(self) -> nn.Module:
        with torch.no_grad():
            self.pooled.linear.bias.fill_(float("nan"))
        return self.pooled


class _FewCodes(Coded):
    def codes(self) -> Tensor:
        return self.table[:2]


class _NanCodes(Coded):
    def codes(self) -> Tensor:
        return self.table / 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_Wrong, r"encoder\(\), which gives \(6,\).*\(5,\)"),
        (_Batched, r"encoder\(\), which gives \(1, 5\)"),
        (_NotFinite, r"encoder\(\), which gives a NaN"),
        (_FewCodes, r"codes\(\) of shape \(2, 5\).*\(3, 5\), a row for each of a, b, c"),
        (_NanCodes, r"a NaN or an infinity"),
    ],
)
def test_generators_that_break_the_convention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type, words: str
) -> None:
    make_run(tmp_path / "run", monkeypatch, ("a.jpg", "b.jpg", "c.jpg"), make)
    with pytest.raises(ExportError, match=f"(?s)got: .*{words}"):
        export_onnx(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encoder_without_codes_and_artworks_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Mixing()
    generator.encoder = lambda: generator.pooled  # type: ignore[assignment]
    with pytest.raises(ExportError, match=r"encoder\(\), whose styles are no codes"):
        companions.companions_from_generator(generator, Manifest("m", ("a", "b"), 1, "fp32", "CC0"), [])
    make_run(tmp_path / "run", monkeypatch, ("x/a.jpg", "y/a.jpg"))
    with pytest.raises(ExportError, match="each name once"):
        export_onnx(tmp_path / "run", tmp_path / "out")


def test_a_style_named_auto_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run", monkeypatch, ("x/auto.jpg", "b.jpg"))
    with pytest.raises(ExportError, match=r"a style named auto(.|\n)*config\.json"):
        export_onnx(tmp_path / "run", tmp_path / "out")
    config = config_from_dict({"artworks": ["auto.jpg"], "photos": "x", "run": "y"}, "test")
    named = dataclasses.replace(config, styles=("auto", "b"))
    assert styles_of(config, nn.Identity()) == (), "one style is no choice"
    assert styles_of(named, nn.Identity()) == ("auto", "b"), "nothing chooses there"
    with pytest.raises(ExportError, match="a style named auto"):
        styles_of(named, Mixing())


def test_outside_the_tolerance_nothing_is_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="encoder as ONNX differs from torch"):
        export_onnx(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_companions_stay_in_fp32(files: Path) -> None:
    with pytest.raises(stylesdk.ModelFileError, match="the encoder of trio"):
        fp16_model(files / "trio.encoder.onnx", files, None)
    data = (files / "trio.chooser.onnx").read_bytes()
    for convert in (fp16_from_onnx, batched_from_onnx, lambda *of: int8_from_onnx(*of, samples=[])):
        with pytest.raises(stylesdk.ModelFileError, match="x, the chooser of trio"):
            convert(data, "x")


def test_only_companions_of_its_own_export_belong_to_a_model(files: Path, tmp_path: Path) -> None:
    for path in files.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model, encoder = tmp_path / "trio.onnx", tmp_path / "trio.encoder.onnx"
    both = {path: path.read_bytes() for path in (encoder, tmp_path / "trio.chooser.onnx")}
    assert companions.companions_beside(model) == both
    whole = onnx.load_model_from_string(both.pop(encoder))
    weight = whole.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1, weight.name))
    other = sealed(whole, manifest_from_onnx(encoder.read_bytes(), "it"))
    for data in (other, encoder.read_bytes()[:-20], b"no model"):
        encoder.write_bytes(data)
        assert companions.companions_beside(model) == both


def test_plans_of_all_three_and_the_sidecar_of_the_model(files: Path, tmp_path: Path) -> None:
    """TensorRT for RTX builds the model in fp16, and its companions, of any size, in fp32."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    rtx = {"flavour": "tensorrt_rtx", "precision": "fp16"}
    promise = engine_from_onnx(files / "trio.onnx", tmp_path / "m.plan", **SMALL, **rtx)
    sidecar = manifest_from_json((tmp_path / "m.plan.json").read_text(), "it")
    source = manifest_from_onnx((files / "trio.onnx").read_bytes(), "it")
    assert sidecar == promise and sidecar.precision == "fp16"
    assert (sidecar.codes, sidecar.companions) == (source.codes, source.companions)
    for kind in KINDS:
        sizes = {"min_size": (16, 16), "opt_size": (384, 512), "max_size": (1024, 1024)}
        path = tmp_path / f"{kind}.plan"
        made = engine_from_onnx(files / f"trio.{kind}.onnx", path, **sizes, **rtx)
        assert (made.kind, made.precision) == (kind, "fp32") and path.stat().st_size > 1000


def test_a_batch_of_frames_with_codes_for_triton(files: Path, frame: np.ndarray) -> None:
    data = (files / "trio.onnx").read_bytes()
    manifest = manifest_from_onnx(data, "trio")
    assert manifest.codes is not None
    batched = batched_from_onnx(data, "trio")
    samples = [Sample(frame, s, code=np.array(c, np.float32)) for s, c in zip((1.0, 0.3), manifest.codes, strict=False)]
    assert np.abs(run_batch(batched, samples).astype(int) - np.stack(run_frames(data, samples))).max() <= 1
    assert contract_tensors(manifest, batched=True)["style"] == ("TYPE_FP32", [C])
    check_config(onnx_config("trio_onnx", manifest, (48, 64)), manifest, "trio_onnx", batched)


def test_a_triton_repository_has_the_encoder_and_the_chooser_for_its_clients(
    files: Path, tmp_path: Path, frame: np.ndarray
) -> None:
    (folder,) = triton_repository(files / "trio.onnx", tmp_path / "repository")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("1", "config.pbtxt", "trio.chooser.onnx", "trio.encoder.onnx")
    ]
    palette = Palette(manifest_from_onnx((files / "trio.onnx").read_bytes(), "trio"), folder)
    np.testing.assert_array_equal(palette.encode(frame), stylesdk.encode(frame, files / "trio.onnx"))


def test_command_line_writes_copies_and_names_them(
    run: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan of a run has its companions beside it; so has another precision of a file elsewhere."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    out, there = tmp_path / "out", tmp_path / "there"
    words = [str(run), "-o", str(out), "--format", "engine", "--size", "64x48", "--flavour", "tensorrt_rtx"]
    assert app(words, standalone_mode=False) is None
    told = capsys.readouterr().out
    assert "trio.encoder.onnx" in told and "of the largest number, over 8 pictures" in told and "of 255" in told
    (plan,) = out.glob("*.plan")
    assert plan.name == "trio.fp16.64x48.plan"
    assert set(json.loads((out / f"{plan.name}.json").read_text())["companions"]) == {"encoder", "chooser"}
    picture = render_frame(7, 100, (64, 64))
    np.testing.assert_array_equal(stylesdk.encode(picture, plan), stylesdk.encode(picture, files / "trio.onnx"))
    app([str(files / "trio.onnx"), "-o", str(there), "--precision", "fp16"], standalone_mode=False)
    names = ["trio.chooser.onnx", "trio.encoder.onnx", "trio.fp16.onnx"]
    assert sorted(path.name for path in there.iterdir()) == names
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    with Stylizer(f"{there / names[2]}:{tmp_path / 'p.png'}", device="cpu", runtime="onnxruntime") as stylizer:
        by_code = stylizer.run(picture, style=stylesdk.encode(picture, there / names[2]))
        np.testing.assert_array_equal(stylizer.run(picture), by_code)
