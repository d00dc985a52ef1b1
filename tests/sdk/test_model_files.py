"""A model file is trusted only after every bit of it was checked."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stylesdk
from stylesdk import Stylizer
from stylesdk.manifest import KEY, MAX_BYTES, Manifest, sha256_of_onnx
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve

ONNX = resolve("starry_night")


def write(folder: Path, data: bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(stylesdk.ModelFileError) as caught:
        Stylizer(path)
    text = str(caught.value)
    assert str(path) in text
    assert text.startswith("got:")
    return text


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.5, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    data = ONNX.read_bytes()
    refused(write(tmp_path, data[: int(len(data) * share)]))


def test_one_byte_short_or_long(tmp_path: Path) -> None:
    data = ONNX.read_bytes()
    refused(write(tmp_path, data[:-1]))
    refused(write(tmp_path, data + b"\0"))


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_bit(tmp_path: Path, seed: int) -> None:
    data = bytearray(ONNX.read_bytes())
    random = np.random.default_rng(seed)
    # Every second flip lies in the manifest, which is the file's last kilobyte or two.
    place = int(random.integers(len(data) - 1500, len(data)) if seed % 2 else random.integers(len(data)))
    data[place] ^= 1 << int(random.integers(8))
    refused(write(tmp_path, bytes(data)))


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes(tmp_path: Path, seed: int) -> None:
    refused(write(tmp_path, np.random.default_rng(seed).bytes(10_000)))


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    assert "empty" in refused(write(tmp_path, b""))
    assert "No such file" in refused(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / "folder.onnx")


def test_over_the_size_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), MAX_BYTES + 1)  # sparse: takes no disk
    assert "MiB" in refused(path)


def identity_onnx(*, manifest: bool = True, external: bool = False) -> bytes:
    """A tiny model in the frame contract: styled = frame."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "one"], ["same"]),
        helper.make_node("Cast", ["same"], ["styled"], to=TensorProto.UINT8),
    ]
    shape = [1, "height", "width", 3]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], np.ones(1, np.float32).tobytes(), raw=True)
    if external:
        one.ClearField("raw_data")
        one.data_location = TensorProto.EXTERNAL
        one.external_data.add(key="location", value="weights.bin")
    graph = helper.make_graph(
        nodes,
        "identity",
        [
            helper.make_tensor_value_info("frame", TensorProto.UINT8, shape),
            helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("styled", TensorProto.UINT8, shape)],
        [one],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if not manifest:
        return model.SerializeToString()
    blank = Manifest(name="identity", styles=("identity",), stride=1, precision="fp32", licence="Apache-2.0")
    model.metadata_props.add(key=KEY, value=blank.to_json())
    data = model.SerializeToString()
    return data.replace(blank.sha256.encode(), sha256_of_onnx(data, blank).encode(), 1)


def test_known_answer_of_a_tiny_model(tmp_path: Path, frame: np.ndarray) -> None:
    with Stylizer(write(tmp_path, identity_onnx())) as stylizer:
        np.testing.assert_array_equal(stylizer.run(frame), frame)
        assert stylizer.manifest is not None and stylizer.manifest.name == "identity"


def test_foreign_onnx_is_told_how_to_become_ours(tmp_path: Path) -> None:
    assert "stylesdk export" in refused(write(tmp_path, identity_onnx(manifest=False)))


def test_external_data_is_refused(tmp_path: Path) -> None:
    assert "another file" in refused(write(tmp_path, identity_onnx(external=True)))


def test_newer_manifest_schema_is_named() -> None:
    model = onnx.load_model_from_string(identity_onnx())
    text = model.metadata_props[0].value.replace('"schema":1', '"schema":99')
    model.metadata_props[0].value = text
    with pytest.raises(stylesdk.ModelFileError, match="schema 99"):
        manifest_from_onnx(model.SerializeToString(), "model")


def test_manifest_round_trip() -> None:
    from stylesdk.manifest import Engine, manifest_from_json

    manifest = Manifest(
        name="a",
        styles=("a", "b"),
        stride=8,
        precision="fp16",
        licence="CC0",
        min_size=(480, 640),
        opt_size=(720, 1280),
        max_size=(1080, 1920),
        engine=Engine("tensorrt_rtx", "1.7.1"),
    )
    assert manifest_from_json(manifest.to_json(), "x") == manifest
