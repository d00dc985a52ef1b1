"""The Triton repository: what a batch computes, what the configs say, what is refused. No Triton server runs here."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from styleexport.cli import app
from styleexport.errors import ExportError
from styleexport.fp16_from_onnx import sealed
from styleexport.triton_config import check_config
from styleexport.triton_repository import _opened, triton_repository
from stylesdk import Stylizer
from stylesdk.errors import MissingExtraError, ModelFileError
from stylesdk.manifest import KEY, Engine, manifest_from_json
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve

FP32, INT8 = resolve("starry_night.nano"), resolve("starry_night.nano.int8")


def config_of(folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def write_plan(folder, file, *, cc="8.9", flavour="tensorrt", size=(720, 1280), low=None, **changes):
    """Bytes that begin as a plan does, with a sidecar."""
    data = (b"ftrt" if flavour == "tensorrt" else b"vtrt") + file.encode() + bytes(100)
    engine = Engine(flavour, changes.pop("version", "10.9.0"), "a GPU" if cc else "", cc, "13.0" if cc else "")
    manifest = dataclasses.replace(
        manifest_from_onnx(FP32.read_bytes(), "x"),
        precision="fp16",
        sha256=hashlib.sha256(data).hexdigest(),
        min_size=low or size,
        opt_size=size,
        max_size=size,
        engine=engine,
    )
    manifest = dataclasses.replace(manifest, **changes)
    path = folder / file
    path.write_bytes(data)
    path.with_name(f"{file}.json").write_text(manifest.to_json())
    return path


def everything_in(folder):
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_a_batched_file_is_not_taken_for_a_model_file(tmp_path):
    (folder,) = triton_repository(FP32, tmp_path / "repository")
    with pytest.raises(ModelFileError, match="without a stylesdk manifest"):
        Stylizer(folder / "1" / "model.onnx")


# The config


def test_config_of_an_onnx_model(tmp_path):
    (folder,) = triton_repository(resolve("six"), tmp_path / "repository", warm_up=(480, 640))
    assert {p.name for p in folder.rglob("*")} == {"config.pbtxt", "1", "model.onnx"}
    config = config_of(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("six_onnx", "onnxruntime", 8)
    assert {t.name: (t.data_type, list(t.dims)) for t in config.input} == {
        "frame": (model_config_pb2.TYPE_UINT8, [-1, -1, 3]),
        "strength": (model_config_pb2.TYPE_FP32, [1]),
        "style": (model_config_pb2.TYPE_FP32, [6]),
    }
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("styled", model_config_pb2.TYPE_UINT8, [-1, -1, 3])
    ]
    assert max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert [(g.kind, g.count) for g in config.instance_group] == [(model_config_pb2.ModelInstanceGroup.KIND_GPU, 1)]
    assert [w.batch_size for w in config.model_warmup] == [1, 4, 8]
    for warm_up in config.model_warmup:
        assert list(warm_up.inputs["frame"].dims) == [480, 640, 3]
        assert set(warm_up.inputs) == {"frame", "strength", "style"}
    manifest = manifest_from_json(config.parameters[KEY].string_value, "config")
    assert manifest.styles == manifest_from_onnx(resolve("six").read_bytes(), "six").styles
    assert manifest.sha256 == hashlib.sha256((folder / "1" / "model.onnx").read_bytes()).hexdigest()


def test_the_graph_takes_what_the_config_says(tmp_path):
    (folder,) = triton_repository(FP32, tmp_path / "repository")
    model = onnx.load(folder / "1" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    picture = ["batch", "height", "width", 3]
    assert shapes == {"frame": picture, "strength": ["batch", 1], "styled": picture}


@pytest.fixture
def written(tmp_path):
    """A config, the manifest in it, the name, the graph."""
    (folder,) = triton_repository(FP32, tmp_path / "repository")
    text = (folder / "config.pbtxt").read_text()
    manifest = manifest_from_json(config_of(folder).parameters[KEY].string_value, "config")
    return text, manifest, folder.name, (folder / "1" / "model.onnx").read_bytes()


def test_a_good_config_passes(written):
    check_config(*written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("max_batch_size", "max_batch"), "schema refuses at 2:1.*max_batch"),
        (("TYPE_UINT8", "TYPE_BYTE"), "schema refuses.*TYPE_BYTE"),
        (("TYPE_UINT8", "TYPE_INT8"), "tensors.*TYPE_INT8"),
        (("dims: 3", "dims: 4"), "tensors.*4"),
        (('name: "strength"', 'name: "much"'), "tensors.*much"),
        (("max_batch_size: 8", "max_batch_size: 0"), "tensors"),
        (('"starry_night_nano_onnx"', '"other"'), "config of 'other'"),
        (("Apache-2.0", "MIT"), "another manifest"),
    ],
)
def test_a_config_that_does_not_agree_is_refused(written, change, message):
    text, *others = written
    assert change[0] in text
    with pytest.raises(ExportError, match=message):
        check_config(text.replace(*change), *others)


def test_a_graph_that_does_not_agree_is_refused(written):
    text, manifest, name, graph = written
    model = onnx.load_model_from_string(graph)
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 2
    with pytest.raises(ExportError, match="graph has the tensors"):
        check_config(text, manifest, name, model.SerializeToString())
    with pytest.raises(ExportError, match="without an axis of frames"):
        check_config(text, manifest, name, FP32.read_bytes())


def test_without_tritonclient(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    with pytest.raises(MissingExtraError, match=r"stylesdk\[triton\]"):
        triton_repository(FP32, tmp_path / "repository")
    assert not list(tmp_path.iterdir())


# Plans


def test_one_plan(tmp_path):
    plan = write_plan(tmp_path, "a.plan")
    _, folder = triton_repository(FP32, tmp_path / "repository", plans=[plan])
    config = config_of(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("starry_night_nano_trt", "tensorrt", 0)
    assert [(t.name, list(t.dims)) for t in config.input] == [("frame", [1, 720, 1280, 3]), ("strength", [1])]
    assert [(t.name, list(t.dims)) for t in config.output] == [("styled", [1, 720, 1280, 3])]
    assert config.optimization.cuda.graphs
    assert not config.cc_model_filenames
    assert [(w.batch_size, list(w.inputs["frame"].dims)) for w in config.model_warmup] == [(1, [1, 720, 1280, 3])]
    assert (folder / "1" / "model.plan").read_bytes() == plan.read_bytes()
    assert config.parameters[KEY].string_value == plan.with_name("a.plan.json").read_text()


def test_a_plan_of_several_sizes_has_open_sides_and_no_graph(tmp_path):
    plan = write_plan(tmp_path, "a.plan", low=(480, 640))
    _, folder = triton_repository(FP32, tmp_path / "repository", plans=[plan])
    config = config_of(folder)
    assert list(config.input[0].dims) == [1, -1, -1, 3]
    assert list(config.model_warmup[0].inputs["frame"].dims) == [1, 720, 1280, 3]
    assert not config.optimization.cuda.graphs


def test_plans_for_several_kinds_of_gpu(tmp_path):
    plans = [write_plan(tmp_path, f"{cc}.plan", cc=cc) for cc in ("8.9", "12.0")]
    _, folder = triton_repository(FP32, tmp_path / "repository", plans=plans)
    config = config_of(folder)
    assert dict(config.cc_model_filenames) == {"8.9": "model_8_9.plan", "12.0": "model_12_0.plan"}
    for plan, name in zip(plans, ("model_8_9.plan", "model_12_0.plan"), strict=True):
        assert (folder / "1" / name).read_bytes() == plan.read_bytes()
    engine = manifest_from_json(config.parameters[KEY].string_value, "config").engine
    assert (engine.version, engine.gpu, engine.compute_capability) == ("10.9.0", "", "")


def test_plans_of_several_sizes_are_several_models(tmp_path):
    plans = [write_plan(tmp_path, f"{h}.plan", size=(h, 16 * h // 9)) for h in (720, 1080)]
    folders = triton_repository(FP32, tmp_path / "repository", plans=plans)
    names = [folder.name for folder in folders]
    assert names[1:] == ["starry_night_nano_trt_1280x720", "starry_night_nano_trt_1920x1080"]
    assert [config_of(f).input[0].dims[1] for f in folders[1:]] == [720, 1080]


@pytest.mark.parametrize(
    ("plans", "message"),
    [
        ([{"flavour": "tensorrt_rtx", "cc": ""}], "a plan of tensorrt_rtx.*only one that Triton"),
        ([{"cc": ""}], "names no GPU"),
        ([{"name": "wave"}], "a plan of wave"),
        ([{"styles": ("a", "b")}], "expected: one of starry_night.nano"),
        ([{}, {}], "both of 1280x720 for compute capability 8.9"),
        ([{}, {"cc": "12.0", "version": "10.16.1"}], "TensorRT 10.16.1.*10.9.0"),
        ([{}, {"cc": "12.0", "precision": "int8"}], "precision int8.*fp16"),
    ],
)
def test_plans_that_are_refused(tmp_path, plans, message):
    triton_repository(FP32, tmp_path / "repository")
    before = everything_in(tmp_path / "repository")
    paths = [write_plan(tmp_path, f"{index}.plan", **options) for index, options in enumerate(plans)]
    with pytest.raises(ExportError, match=f"(?s){message}"):
        triton_repository(FP32, tmp_path / "repository", plans=paths)
    assert everything_in(tmp_path / "repository") == before


@pytest.mark.parametrize("change", [{"codes": ((1.0, 2.0), (3.0, 4.5))}, {"companions": {"encoder": "1" * 64}}, {}])
def test_a_plan_of_another_export_with_codes_is_refused(tmp_path, change):
    codes = {"styles": ("a", "b"), "codes": ((1.0, 2.0), (3.0, 4.0)), "companions": {"encoder": "0" * 64}}
    model = dataclasses.replace(manifest_from_onnx(FP32.read_bytes(), "x"), **codes)
    plan = write_plan(tmp_path, "a.plan", **codes | change)
    if not change:
        assert _opened(plan, model).path == plan
        return
    with pytest.raises(ExportError, match=r"other style codes, or for another encoder(.|\n)*the same export"):
        _opened(plan, model)


def test_a_plan_without_its_sidecar_or_damaged_is_refused(tmp_path):
    plan = write_plan(tmp_path, "a.plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="SHA-256"):
        triton_repository(FP32, tmp_path / "repository", plans=[plan])
    plan.with_name("a.plan.json").unlink()
    with pytest.raises(ExportError, match=r"without a\.plan\.json"):
        triton_repository(FP32, tmp_path / "repository", plans=[plan])
    assert not (tmp_path / "repository").exists()


# Writing


def test_other_models_stay_and_the_same_one_is_replaced(tmp_path):
    out = tmp_path / "repository"
    triton_repository(FP32, out, plans=[write_plan(tmp_path, "a.plan")])
    (out / "mine" / "1").mkdir(parents=True)
    (out / "starry_night_nano_onnx" / "stale").write_text("x")
    plan = config_of(out / "starry_night_nano_trt")
    triton_repository(INT8, out)
    assert sorted(p.name for p in out.iterdir()) == ["mine", "starry_night_nano_onnx", "starry_night_nano_trt"]
    assert not (out / "starry_night_nano_onnx" / "stale").exists()
    assert '\\"precision\\":\\"int8\\"' in (out / "starry_night_nano_onnx" / "config.pbtxt").read_text()
    assert config_of(out / "starry_night_nano_trt") == plan
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.plan", "a.plan.json", "repository"]


def test_the_old_model_is_back_when_the_new_one_cannot_come(tmp_path, monkeypatch):
    out = tmp_path / "repository"
    triton_repository(FP32, out)
    before, rename = everything_in(out), Path.rename

    def full(self, target):
        if self.name == "starry_night_nano_onnx" and target.parent == out:
            raise OSError("No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ExportError, match="No space left"):
        triton_repository(INT8, out)
    assert everything_in(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["repository"]


def test_a_file_where_the_repository_should_be(tmp_path):
    (tmp_path / "repository").write_text("mine")
    with pytest.raises(ExportError, match="File exists"):
        triton_repository(FP32, tmp_path / "repository")
    assert (tmp_path / "repository").read_text() == "mine"


def test_a_damaged_model_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(FP32.read_bytes()[:-1])
    with pytest.raises(ModelFileError):
        triton_repository(tmp_path / "x.onnx", tmp_path / "repository")


def test_names_become_folders(tmp_path):
    model = onnx.load_model_from_string(FP32.read_bytes())
    manifest = dataclasses.replace(manifest_from_onnx(FP32.read_bytes(), "x"), name="../my style.1")
    (tmp_path / "x.onnx").write_bytes(sealed(model, manifest))
    (folder,) = triton_repository(tmp_path / "x.onnx", tmp_path / "repository")
    assert folder == tmp_path / "repository" / "___my_style_1_onnx"


# The command


def export(*arguments):
    app([str(a) for a in arguments], standalone_mode=False)


def test_command(tmp_path, capsys):
    out = tmp_path / "repository"
    export("starry_night.nano", "-o", out, "--format", "triton", "--size", "640x480")
    config = config_of(out / "starry_night_nano_onnx")
    assert manifest_from_json(config.parameters[KEY].string_value, "config").precision == "fp16"
    assert list(config.model_warmup[0].inputs["frame"].dims) == [480, 640, 3]
    assert [p.name for p in out.iterdir()] == ["starry_night_nano_onnx"]
    told = capsys.readouterr().out
    assert str(out / "starry_night_nano_onnx") in told
    assert len(told.splitlines()) == 1


def test_command_with_a_plan(tmp_path):
    plan = write_plan(tmp_path, "a.plan")
    export(FP32, "-o", tmp_path / "r", "--format", "triton", "--precision", "fp32", "--plan", plan)
    assert (tmp_path / "r" / "starry_night_nano_trt" / "1" / "model.plan").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "triton", "--precision", "fp32", "--precision", "fp16"], "expected: one, for --format triton"),
        (["--format", "onnx", "--plan", "x.plan"], "--plan with --format onnx"),
        (["--format", "tflite"], "expected: onnx, engine or triton"),
    ],
)
def test_command_refuses(tmp_path, options, message):
    with pytest.raises(ExportError, match=message):
        export(FP32, "-o", tmp_path / "r", *options)
    assert not list(tmp_path.iterdir())
