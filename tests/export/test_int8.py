"""int8: the fp32 picture within its tolerance, bytes from end to end, and everything that is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import styleexport.int8_calibration as calibration
from styleexport.byte_layout import arrange_for_bytes
from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.errors import ExportError
from styleexport.export import export_onnx, fp16_model, int8_model
from styleexport.int8_for_tensorrt import int8_for_tensorrt, scene_samples
from styleexport.int8_from_onnx import int8_from_onnx
from styleexport.int8_rounding import Convolution, rounded
from styleexport.onnx_from_checkpoint import onnx_from_generator
from styleexport.onnx_graph import Graph
from styleexport.verify import TOLERANCES, Difference, Frame, Sample, Tolerance, compare, run_frames
from stylesdk import Manifest, Stylizer
from stylesdk.live.scene import render_frame
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from styletrainer.generators import Realtime

NANO = resolve("starry_night.nano")


def scenes(count: int, size: tuple[int, int]) -> list[Frame]:
    """Frames with detail that differ."""
    return [render_frame(100 * index // count, 100, (240, 320))[: size[0], : size[1]] for index in range(count)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index, frame in enumerate(scenes(12, (240, 320))):
        cv2.imwrite(str(folder / f"{index:02}.png"), frame)
    return folder


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    return int8_model(NANO, tmp_path_factory.mktemp("out"), photos)


# Of 16x24 pixels the mean is that of six cells: 0.4 to 2.8 over such sizes and ways to choose the rounding's places.
@pytest.mark.parametrize(("size", "mean"), [((200, 300), 2), ((97, 131), 2), ((16, 24), 4)])
def test_is_the_fp32_picture_on_both_runtimes(int8: Path, size: tuple[int, int], mean: float) -> None:
    fp32 = NANO.read_bytes()
    samples = [Sample(f, s) for f, s in zip(scenes(3, size), (1.0, 1.0, 0.4), strict=True)]
    found = compare(run_frames(fp32, samples), run_frames(int8.read_bytes(), samples))
    assert 0 < found.mean <= mean and found.max <= 96, found
    with (
        Stylizer(int8, runtime="onnxruntime") as one,
        Stylizer(int8, runtime="openvino") as other,
    ):
        for sample in samples:
            pair = [[s.run(sample.frame, sample.strength)] for s in (one, other)]
            assert compare(*pair).mean <= 0.5
            for stylizer in (one, other):
                np.testing.assert_array_equal(stylizer.run(sample.frame, 0.0), sample.frame)


def test_onnxruntime_computes_it_in_bytes_throughout(int8: Path, tmp_path: Path) -> None:
    """One rounding of the frame, one back to float for the blend: nothing in between leaves 8 bits."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    convs = sum(node.op_type == "Conv" for node in onnx.load(int8).graph.node)
    assert kinds.count("QLinearConv") == convs and kinds.count("QLinearAdd") == 1
    assert kinds.count("QuantizeLinear") == 1 and kinds.count("DequantizeLinear") == 1
    assert not {"Conv", "FusedConv", "DepthToSpace"}.intersection(kinds)


def test_file_has_the_contract_and_no_local_path(int8: Path, photos: Path) -> None:
    data = int8.read_bytes()
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    fp32 = onnx.load(NANO)
    assert model.opset_import == fp32.opset_import
    assert model.graph.input == fp32.graph.input and model.graph.output == fp32.graph.output
    assert [n.op_type for n in model.graph.node if "frame" in n.input and n.op_type != "Shape"] == ["Cast"]
    assert next(n.op_type for n in model.graph.node if "styled" in n.output) == "Cast"
    assert model.producer_name == "stylesdk" and not model.doc_string
    for secret in (str(photos).encode(), str(Path.home()).encode() + b"/", b"site-packages", b"onnx.quantize"):
        assert secret not in data
    manifest, exact = manifest_from_onnx(data, "int8"), manifest_from_onnx(NANO.read_bytes(), "fp32")
    assert (manifest.precision, manifest.styles, manifest.reach) == ("int8", exact.styles, exact.reach)
    assert manifest.quality["difference_to_fp32"]["mean"] <= 2 and "float_layers" not in manifest.quality
    assert len(data) < len(NANO.read_bytes())


def test_same_photos_same_bytes(int8: Path, photos: Path, tmp_path: Path) -> None:
    again = int8_model(NANO, tmp_path, photos)
    assert again.name == int8.name == "starry_night.nano.int8.onnx"
    assert again.read_bytes() == int8.read_bytes()
    assert int8_model(int8, tmp_path / "unused", None) == int8
    assert not (tmp_path / "unused").exists()


def test_without_photos_or_from_fp16_it_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ExportError, match=r"photographs(.|\n)*--photos"):
        int8_model(NANO, tmp_path / "out", None)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "photo.jpg").write_bytes(b"no picture")
    with pytest.raises(ExportError, match=r"photographs(.|\n)*--photos"):
        int8_model(NANO, tmp_path / "out", tmp_path / "broken")
    half = fp16_model(NANO, tmp_path / "half", None)
    with pytest.raises(ExportError, match="precision fp16; expected: an fp32 model"):
        int8_model(half, tmp_path / "out", photos)
    assert not (tmp_path / "out").exists()


def test_outside_the_tolerance_nothing_is_written(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "int8", Tolerance(max=1, mean=0.01))
    with pytest.raises(ExportError, match=r"int8(.|\n)*at most 1 and 0\.01(.|\n)*Nothing was written"):
        int8_model(NANO, tmp_path / "out", photos)
    assert not (tmp_path / "out").exists()


def test_as_few_layers_as_can_be_stay_float(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with every layer rounded, taken with all but the last; and the file says so."""
    tried: list[int] = []

    def verify(*_: object) -> Difference:
        tried.append(1)
        if len(tried) == 1:
            raise ExportError("too coarse")
        return Difference(5, 1.0, 8)

    monkeypatch.setattr(calibration, "verify_each_style", verify)
    written = int8_model(NANO, tmp_path, photos)
    assert len(tried) == 2
    assert manifest_from_onnx(written.read_bytes(), "it").quality["float_layers"] == ["last convolution"]
    graph = Graph(onnx.load(written))
    convs = [n for n in graph.nodes if n.op_type == "Conv"]
    assert [n.input[1] in graph.constants for n in convs] == [False] * (len(convs) - 1) + [True]


def test_several_styles(photos: Path, tmp_path: Path) -> None:
    """The bundled file of six; its styles scale channels very differently."""
    fp32, path = resolve("six").read_bytes(), tmp_path / "six.int8.onnx"
    names = manifest_from_onnx(fp32, "six").styles
    each = np.eye(len(names), dtype=np.float32)
    seen = [Sample(f, style=each[i % len(names)]) for i, f in enumerate(scenes(12, (160, 160)))]
    path.write_bytes(int8_from_onnx(fp32, "six", seen))
    weights = [*each, each.mean(0)]
    samples = [Sample(f, style=w) for f, w in zip(scenes(7, (120, 160)), weights, strict=True)]
    wanted = run_frames(fp32, samples)
    assert compare(wanted, run_frames(path.read_bytes(), samples)).mean <= 2
    with Stylizer(path, runtime="openvino") as stylizer:
        found = [stylizer.run(s.frame, style=name) for s, name in zip(samples, names, strict=False)]
    assert compare(wanted[:-1], found).mean <= 2
    styles = [tuple(s.style) for s in calibration.calibration_samples(photos, 6) if s.style is not None]
    assert min(styles.count(tuple(weight)) for weight in each) >= 4


def test_a_run_exports_int8_with_its_own_photos(tmp_path: Path, photos: Path) -> None:
    from styletrainer.config import config_from_dict
    from styletrainer.run.checkpoint import save_checkpoint

    torch.manual_seed(0)
    generator = Realtime("nano").eval()
    for place, name in ((photos, "with"), (tmp_path / "gone", "without")):
        run = tmp_path / name
        values = {"artworks": ["art.jpg"], "photos": str(place), "run": str(run), "generator": "realtime"}
        run.mkdir()
        config_from_dict(values | {"generator_options": {"size": "nano"}}, "test").save(run / "config.json")
        save_checkpoint(run, {}, generator)
    written = export_onnx(tmp_path / "with", tmp_path / "out", precisions=["fp32", "int8"])
    assert [path.name for path in written] == ["art.onnx", "art.int8.onnx"]
    assert 0 < list(written.values())[1].mean <= 2
    with pytest.raises(ExportError, match="--photos"):
        export_onnx(tmp_path / "without", tmp_path / "none", precisions=["fp32", "int8"])
    assert not (tmp_path / "none").exists()


def test_arranged_for_bytes_it_computes_the_same() -> None:
    model = onnx.load(NANO)
    graph = Graph(model)
    arrange_for_bytes(graph)
    kinds = [node.op_type for node in graph.finished().graph.node]
    assert "DepthToSpace" in [n.op_type for n in model.graph.node] and "DepthToSpace" not in kinds
    samples = [Sample(frame) for frame in (*scenes(2, (97, 131)), *scenes(1, (16, 24)))]
    wanted = run_frames(model.SerializeToString(), samples)
    assert compare(wanted, run_frames(graph.finished().SerializeToString(), samples)).max <= 1


def test_rounding_keeps_results_where_plain_rounding_does_not() -> None:
    """A kernel like the folded ones, an identity and small weights, on inputs that go together as real ones do."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.02, (16, 16, 3, 3)).astype(np.float32)
    kernel[:, :, 1, 1] += np.eye(16, dtype=np.float32)
    conv = Convolution(kernel, np.zeros(16, np.float32), 1, (1, 1, 1, 1))
    base = cv2.GaussianBlur(random.normal(1, 2, (40, 40, 4)), (0, 0), 2)
    inputs = [np.maximum(base @ random.normal(0, 1, (4, 16)) + 1, 0).transpose(2, 0, 1)[None].astype(np.float32)]
    found = rounded(conv, inputs, inputs)
    plain_step = np.abs(kernel).reshape(16, -1).max(1)[:, None, None, None] / 127
    plain = np.rint(kernel / plain_step) * plain_step
    assert found.kernel.dtype == np.int8 and np.abs(found.kernel.astype(int)).max() <= 127

    def results(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        tensors = (torch.from_numpy(np.asarray(v, np.float32)) for v in (inputs[0], kernel, bias))
        return torch.nn.functional.conv2d(*tensors, padding=1).numpy()

    wanted = results(kernel, conv.bias)
    error = np.abs(results(found.kernel * found.step[:, None, None, None], found.bias) - wanted).mean()
    assert error < 0.3 * np.abs(results(plain, conv.bias) - wanted).mean()


def test_tensorrt_gets_signed_bytes_and_about_the_same_picture(int8: Path) -> None:
    model = onnx.load_model_from_string(signed := int8_for_tensorrt(int8.read_bytes()))
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = graph.constants[node.input[2]]
            assert zero.dtype == np.int8 and not zero.any()
    assert {t.data_type for t in model.graph.initializer if "bias" in t.name} == {onnx.TensorProto.FLOAT}
    first = next(n for n in graph.nodes if n.op_type == "Conv")
    assert first.input[1] in graph.constants, "the frame itself is not cut to 7 bits"
    samples = [Sample(frame) for frame in scenes(3, (200, 300))]
    wanted = run_frames(NANO.read_bytes(), samples)
    assert compare(wanted, run_frames(signed, samples)).mean <= 3


def test_a_plan_too_far_from_its_int8_file_is_refused(
    int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT computes with 7 bits where the file has 8: that differs, and is said before anything is built."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    monkeypatch.setitem(TOLERANCES, "int8 plan", Tolerance(max=255, mean=0.1, do="take another"))
    sizes = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (48, 64)}
    with pytest.raises(ExportError, match=r"as TensorRT takes it(.|\n)*at most 255 and 0\.1(.|\n)*take another"):
        engine_from_onnx(int8, tmp_path / "it.plan", **sizes, flavour="tensorrt_rtx")
    assert not list(tmp_path.iterdir())


def test_as_written_rounds_where_the_graph_does(int8: Path) -> None:
    """Node by node each rounding is the graph's own; fused, sums are rounded elsewhere."""
    samples = [Sample(frame) for frame in scenes(3, (200, 300))]
    fused, written = (run_frames(int8.read_bytes(), samples, as_written=w) for w in (False, True))
    assert 0 < compare(fused, written).mean <= 2


@pytest.mark.parametrize("styles", [1, 3])
def test_tensorrt_builds_it(int8: Path, tmp_path: Path, styles: int) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    model = int8
    if styles > 1:
        manifest = Manifest("some", tuple("abc"), 8, "fp32", "Apache-2.0")
        fp32 = onnx_from_generator(Realtime("nano", styles=styles).eval(), manifest)
        eye = np.eye(styles, dtype=np.float32)
        samples = [Sample(f, style=w) for f, w in zip(scenes(3, (64, 64)), eye, strict=True)]
        model = tmp_path / "some.int8.onnx"
        model.write_bytes(int8_from_onnx(fp32, "some", samples))
    sizes = {"min_size": (48, 64), "opt_size": (48, 64), "max_size": (96, 128)}
    built = engine_from_onnx(model, tmp_path / "it.plan", **sizes, flavour="tensorrt_rtx")
    assert built.precision == "int8" and len(built.styles) == styles
    quality = manifest_from_onnx(model.read_bytes(), "it").quality
    found = Difference(**built.quality.pop("difference_of_plan_graph"))
    assert built.quality == quality, "the figures of the int8 file stay"
    samples = scene_samples(styles)
    signed = int8_for_tensorrt(model.read_bytes())
    assert found == compare(*(run_frames(d, samples, as_written=True) for d in (model.read_bytes(), signed)))
    assert 0 < found.mean <= 3 and found.max <= 128
    assert (tmp_path / "it.plan").read_bytes()[:4] == b"vtrt"
