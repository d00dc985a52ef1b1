"""int8 against fp32: close on photographs, any size, refused where it is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import styleexport.int8_from_onnx as conversion
from styleexport.errors import ExportError
from styleexport.export import fp16_model, int8_model
from styleexport.fp16_from_onnx import sealed
from styleexport.int8_equalize import equalize_channels
from styleexport.onnx_graph import Graph
from styleexport.verify import TOLERANCES, Sample, Tolerance, compare, run_frames
from stylesdk import Stylizer, styles
from stylesdk.bench import bench_frame
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve

STYLE = "starry_night.nano"  # the quickest


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(8):
        picture = bench_frame((400, 560))[:, :: -1 if index % 2 else 1]
        cv2.imwrite(str(folder / f"{index}.png"), cv2.convertScaleAbs(picture, alpha=0.5 + index / 8))
    return folder


@pytest.fixture(scope="module")
def int8(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return int8_model(resolve(STYLE), tmp_path_factory.mktemp("out"), photos)


def test_frame_contract_and_manifest(int8: Path) -> None:
    assert int8.name == f"{STYLE}.int8.onnx"
    model = onnx.load(str(int8))
    onnx.checker.check_model(model, full_check=True)
    manifest, before = (manifest_from_onnx(p.read_bytes(), "x") for p in (int8, resolve(STYLE)))
    assert manifest.precision == "int8"
    assert (manifest.styles, manifest.stride, manifest.reach) == (before.styles, before.stride, before.reach)
    first = next(n for n in model.graph.node if "frame" in n.input and n.op_type != "Shape")
    last = next(n for n in model.graph.node if "styled" in n.output)
    assert (first.op_type, last.op_type) == ("Cast", "Cast")
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("QuantizeLinear") >= kinds.count("Conv") - 2
    assert int8.stat().st_size < 0.7 * resolve(STYLE).stat().st_size


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("size", [(240, 320), (97, 131)])
def test_close_to_fp32_on_both_runtimes(int8: Path, runtime: str, size: tuple[int, int]) -> None:
    frame = bench_frame(size)
    with Stylizer(STYLE, runtime="onnxruntime") as exact, Stylizer(int8, runtime=runtime) as rounded:
        difference = np.abs(exact.run(frame).astype(int) - rounded.run(frame))
        np.testing.assert_array_equal(rounded.run(frame, 0.0), frame)
    assert 0 < difference.mean() <= 2


def test_shipped_int8_on_twenty_photos(shared: Path) -> None:
    """Every shipped int8 file against its fp32 file: mean at most 2 of 255."""
    paths = sorted((shared / "assets/photos").glob("*.jpg"))[::20][:20]
    samples = [Sample(np.asarray(cv2.imread(str(path)), np.uint8)) for path in paths]
    shipped = [style for style in styles() if style.manifest.precision == "int8"]
    assert len(shipped) >= 6
    for style in shipped:
        exact = style.path.with_name(style.path.name.replace(".int8", ""))
        found = compare(run_frames(exact.read_bytes(), samples), run_frames(style.path.read_bytes(), samples))
        assert found.mean <= 2, (style.name, found)


def test_outside_the_tolerance_nothing_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "int8", Tolerance(max=255, mean=0.0))
    with pytest.raises(ExportError, match="int8"):
        int8_model(resolve(STYLE), tmp_path / "out", photos)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_no_photos_and_files_of_other_precisions(int8: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="photo"):
        int8_model(resolve(STYLE), tmp_path, None)
    assert int8_model(int8, tmp_path, photos) == int8
    half = fp16_model(resolve(STYLE), tmp_path, photos)
    with pytest.raises(ExportError, match="fp16"):
        int8_model(half, tmp_path, photos)


def uneven(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The same network, half of the channels between two of its convolutions 64 times smaller; those tensors."""
    graph, tensors = Graph(model), []
    for conv in [n for n in graph.nodes if n.op_type == "Conv"]:
        relu = graph.consumers(conv.output[0])[0]
        readers = graph.consumers(relu.output[0])
        if relu.op_type == "Relu" and [r.op_type for r in readers] == ["Conv"]:
            kernel, bias, after = conv.input[1], conv.input[2], readers[0].input[1]
            scale = np.where(np.arange(len(graph.constants[kernel])) % 2, 64, 1).astype(np.float32)
            graph.constants[kernel] = graph.constants[kernel] / scale[:, None, None, None]
            graph.constants[bias] = graph.constants[bias] / scale
            graph.constants[after] = graph.constants[after] * scale[:, None, None]
            tensors.append(str(relu.output[0]))
    return graph.finished(), tensors


def test_uneven_channels_are_evened_and_the_picture_stays() -> None:
    model, tensors = uneven(onnx.load(resolve(STYLE)))
    assert len(tensors) >= 8
    samples = [Sample(bench_frame((120, 160))), Sample(bench_frame((97, 131)))]
    graph = Graph(model)
    convs = [node for node in graph.nodes if node.op_type == "Conv"]

    def highest() -> dict[str, np.ndarray]:
        ranges = conversion._observed(graph, convs, [conversion._feeds(sample) for sample in samples])[1]
        return {tensor: ranges[tensor][1] for tensor in tensors}

    before = highest()
    equalize_channels(graph, convs, before)
    now = run_frames(graph.finished().SerializeToString(), samples)
    assert compare(run_frames(resolve(STYLE).read_bytes(), samples), now).max <= 1
    for tensor, after in highest().items():
        spread = [np.log(np.maximum(values, 1e-3 * values.max())).std() for values in (before[tensor], after)]
        assert spread[1] < 0.4 * spread[0], tensor


def test_uneven_channels_cost_int8_little(monkeypatch: pytest.MonkeyPatch) -> None:
    even = resolve(STYLE).read_bytes()
    other = sealed(uneven(onnx.load_model_from_string(even))[0], manifest_from_onnx(even, STYLE))
    samples = [Sample(bench_frame((240, 320))), Sample(np.ascontiguousarray(bench_frame((240, 320))[:, ::-1]))]

    def error(model: bytes) -> float:
        return compare(
            run_frames(even, samples), run_frames(conversion.int8_from_onnx(model, STYLE, samples), samples)
        ).mean

    found = error(other)
    assert found < 2 * error(even)
    monkeypatch.setattr(conversion, "equalize_channels", lambda *given: None)
    assert error(other) > 5 * found
