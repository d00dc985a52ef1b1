"""int8 against fp32: close on photographs, any size, refused where it is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from styleexport.errors import ExportError
from styleexport.export import fp16_model, int8_model
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
