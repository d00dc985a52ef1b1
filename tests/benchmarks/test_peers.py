"""Peers: tiny networks of every form through the whole script, and files that are no peers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from peer_models import PeerBackend, form_of, frame_from_tensor, tensor_from_frame
from textures import texture

from stylesdk import DeviceError, ModelFileError, Stylizer

FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
Shape = list[int | str | None]


def inverting(path: Path, shape: Shape, kind: int = FLOAT, *, top: float = 1.0, result: Shape | None = None) -> Path:
    """A network whose picture is ``top`` - x; its weight is also an input, as in old files."""
    weight = numpy_helper.from_array(np.array(top, helper.tensor_dtype_to_np_dtype(kind)), "top")
    inputs = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("top", kind, [])]
    output = helper.make_tensor_value_info("y", kind, result or shape)
    nodes = [helper.make_node("Sub", ["top", "x"], ["y"])]
    return saved(path, nodes, inputs, [output], [weight])


def saved(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] | None = None
) -> Path:
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("shape", "kind", "top"),
    [
        ([1, 3, "h", "w"], FLOAT, 1.0),
        (["n", "h", "w", 3], FLOAT, 1.0),
        ([1, 3, 48, 64], FLOAT, 1.0),
        ([1, "h", "w", 3], BYTE, 255),
        ([1, 3, None, None], BYTE, 255),
        ([1, 3, "h", "w"], HALF, 1.0),
    ],
)
def test_every_form_gives_the_right_picture(runtime: str, shape: Shape, kind: int, top: float, tmp_path: Path) -> None:
    """Colours stay where they are: 255 - frame, whatever the layout and the numbers are inside."""
    frame = np.ascontiguousarray(texture(48, 64)) // np.array([1, 2, 4], np.uint8)
    before = frame.copy()
    backend = PeerBackend(inverting(tmp_path / "net.onnx", shape, kind, top=top), runtime, threads=1)
    with Stylizer(backend=backend) as stylizer:
        found = stylizer.run(frame)
        assert np.abs(found.astype(int) - (255 - before)).max() <= (
            1 if kind == BYTE or runtime == "onnxruntime" else 2
        )
        assert len(backend.run_in_place(3)) == 3
        np.testing.assert_array_equal(stylizer.run(frame), found)
    np.testing.assert_array_equal(frame, before)


def test_one_size_takes_frames_of_any(tmp_path: Path) -> None:
    backend = PeerBackend(inverting(tmp_path / "net.onnx", [1, 3, 32, 32]), "onnxruntime", threads=1)
    assert backend.canvas((48, 64)) == (32, 32)
    with Stylizer(backend=backend) as stylizer:
        assert stylizer.run(texture(48, 64)).shape == (48, 64, 3)


def test_a_few_pixels_more_are_scaled_away_and_many_are_refused(tmp_path: Path) -> None:
    def padded(amount: int) -> PeerBackend:
        pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, amount, amount], np.int64), "pads")
        inputs = [helper.make_tensor_value_info("x", FLOAT, [1, 3, "h", "w"])]
        outputs = [helper.make_tensor_value_info("y", FLOAT, [1, 3, "i", "j"])]
        nodes = [helper.make_node("Pad", ["x", "pads"], ["y"])]
        return PeerBackend(saved(tmp_path / f"{amount}.onnx", nodes, inputs, outputs, [pads]), "onnxruntime")

    with Stylizer(backend=padded(3)) as stylizer:
        assert stylizer.run(texture(48, 64)).shape == (48, 64, 3)
    with Stylizer(backend=padded(64)) as stylizer, pytest.raises(ModelFileError, match=r"112, 128(.|\n)*frame's size"):
        stylizer.run(texture(48, 64))


def test_floats_beyond_the_range_are_cut_off() -> None:
    tensor = np.zeros((1, 3, 1, 2), np.float32)
    tensor[0, :, 0, 0], tensor[0, :, 0, 1] = (-0.5, 0.5, 1.5), (0.001, 0.002, 0.999)
    found = frame_from_tensor(tensor, channels_first=True)
    assert found is not None and found.tolist() == [[[255, 128, 0], [255, 1, 0]]]
    assert frame_from_tensor(np.zeros((1, 1, 4, 4), np.float32), channels_first=True) is None
    assert frame_from_tensor(np.zeros((1, 3, 4, 4), np.int64), channels_first=True) is None


def test_tensor_has_the_form(tmp_path: Path) -> None:
    form = form_of(inverting(tmp_path / "net.onnx", [1, 3, "h", 64], HALF))
    assert (form.name, form.dtype, form.channels_first, form.size) == ("x", np.float16, True, (None, 64))
    tensor = tensor_from_frame(np.full((2, 64, 3), (255, 0, 51), np.uint8), form)
    assert tensor.dtype == np.float16 and tensor.shape == (1, 3, 2, 64)
    assert tensor[0, :, 0, 0].tolist() == pytest.approx([0.2, 0, 1], abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ([1, 3, "h"], FLOAT, "float [1, 3, None]"),
        ([1, 1, "h", "w"], FLOAT, "float [1, 1, None, None]"),
        ([1, "c", "h", "w"], FLOAT, "(1, 3, height, width) or (1, height, width, 3)"),
        ([8, 3, "h", "w"], FLOAT, "[8, 3, None, None]"),
        ([1, 3, "h", "w"], TensorProto.INT64, "float, float16 or uint8"),
    ],
)
def test_what_is_no_image_network(shape: Shape, kind: int, message: str, tmp_path: Path) -> None:
    path = inverting(tmp_path / "net.onnx", shape, kind)
    with pytest.raises(ModelFileError) as caught:
        peers.peers_of([f"other={path}"], [])
    assert message in str(caught.value) and "do this" in str(caught.value)


def test_files_that_are_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x89PNG" * 9)
    for file in ("net.onnx", "missing.onnx"):
        with pytest.raises(ModelFileError, match=f"{file}(.|\\n)*an ONNX file"):
            form_of(tmp_path / file)
    two = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 8, 8]) for name in ("content", "style")]
    out = helper.make_tensor_value_info("y", FLOAT, [1, 3, 8, 8])
    path = saved(tmp_path / "two.onnx", [helper.make_node("Add", ["content", "style"], ["y"])], two, [out])
    with pytest.raises(ModelFileError, match=r"content, style(.|\n)*one input"):
        form_of(path)


def test_a_runtime_that_refuses_says_whose_file_it_was(tmp_path: Path) -> None:
    value = partial(helper.make_tensor_value_info, elem_type=FLOAT, shape=[1, 3, 8, 8])
    path = saved(tmp_path / "odd.onnx", [helper.make_node("NoSuchOp", ["x"], ["y"])], [value("x")], [value("y")])
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(ModelFileError, match=rf"odd.onnx, which {runtime} refuses"):
            PeerBackend(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_that_fails_on_this_size_says_so(runtime: str, tmp_path: Path) -> None:
    value = partial(helper.make_tensor_value_info, elem_type=FLOAT, shape=[1, 3, "h", "w"])
    grid = numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32), "grid")
    path = saved(
        tmp_path / "eight.onnx", [helper.make_node("Add", ["x", "grid"], ["y"])], [value("x")], [value("y")], [grid]
    )
    with Stylizer(backend=PeerBackend(path, runtime)) as stylizer:
        assert stylizer.run(texture(8, 8)).shape == (8, 8, 3)
        with pytest.raises(ModelFileError, match=r"eight.onnx, which fails on a frame of \(48, 64, 3\)(.|\n)*--size"):
            stylizer.run(texture(48, 64))


def test_devices_that_cannot_be_had(tmp_path: Path) -> None:
    path = inverting(tmp_path / "net.onnx", [1, 3, 8, 8])
    with pytest.raises(DeviceError, match="expected: cpu"):
        PeerBackend(path, "openvino", "cuda")
    with pytest.raises(DeviceError, match="tpu"):
        PeerBackend(path, "onnxruntime", "tpu")


@pytest.mark.parametrize("word", ["net.onnx", "=net.onnx", "name=", "wave=net.onnx", "reference=net.onnx"])
def test_mistaken_words(word: str) -> None:
    with pytest.raises(typer.BadParameter, match="--peer"):
        peers.peers_of([word], ["wave"])


def entry(model: str, kind: str, runtime: str) -> peers.Entry:
    return peers.Entry(model, kind, runtime, lambda: PeerBackend(Path("never"), runtime))


def test_rivals_count_where_they_are_fastest() -> None:
    planned = [
        entry("reference", "reference", "onnxruntime"),
        entry("mosaic", "peer", "onnxruntime"),
        entry("wave", "ours", "onnxruntime"),
        entry("reference", "reference", "openvino"),
        entry("mosaic", "peer", "openvino"),
        entry("wave", "ours", "openvino"),
    ]
    assert peers.comparisons(planned, [500.0, 8.0, 20.0, 100.0, 9.0, 5.0]) == [
        {"model": "wave onnxruntime", "rival": "reference openvino", "times_faster": 5.0, "won": True},
        {"model": "wave onnxruntime", "rival": "mosaic onnxruntime", "times_faster": 0.4, "won": False},
        {"model": "wave openvino", "rival": "reference openvino", "times_faster": 20.0, "won": True},
        {"model": "wave openvino", "rival": "mosaic onnxruntime", "times_faster": 1.6, "won": True},
    ]


def test_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "peers.json"
    dynamic = inverting(tmp_path / "a.onnx", [1, 3, "h", "w"])
    fixed = inverting(tmp_path / "b.onnx", [1, 64, 64, 3])
    peers.main(
        ["starry_night.nano", "six:wave"],
        [f"any={dynamic}", f"one={fixed}"],
        "128x72",
        threads=1,
        rounds=2,
        frames=3,
        fps=500,
        output=output,
    )
    report = json.loads(output.read_text(encoding="utf-8"))
    names = ["reference", "any", "one", "starry_night.nano", "six:wave"]
    assert list(report["models"]) == [f"{name} {r}" for r in ("onnxruntime", "openvino") for name in names]
    for label, one in report["models"].items():
        assert one["computes_in"] == ("64x64" if label.startswith("one") else "128x72")
        assert one["backend"].startswith(label.split()[-1])
        counts = [one["kernel"]["count"], one["camera"]["age"]["count"], *(s["count"] for s in one["stages"].values())]
        assert counts == [6] * 6, "two rounds of three"
        assert one["limit"]
    assert len(report["comparisons"]) == 2 * 2 * 3
    assert {line["rival"].split()[0] for line in report["comparisons"]} == {"reference", "any", "one"}
    shown = capsys.readouterr().out
    for line in report["comparisons"]:
        assert f"{'won ' if line['won'] else 'lost'} {line['model']}: " in shown
    assert str(tmp_path) not in output.read_text(), "no folder of this machine in a report"


def test_peers_without_a_peer_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peers.main(["starry_night.nano"], size="128x72", runtime=["openvino"], threads=1, rounds=1, frames=3, fps=500)
    assert "Public peers: not measured" in capsys.readouterr().out


def test_what_does_not_work_is_known_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = partial(helper.make_tensor_value_info, elem_type=FLOAT)
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)]
    grey = saved(
        tmp_path / "grey.onnx", nodes, [value("x", shape=[1, 3, "h", "w"])], [value("y", shape=[1, 1, "h", "w"])]
    )
    measured: list[object] = []
    monkeypatch.setattr(peers.Entry, "measured", lambda *_: measured.append(1))
    with pytest.raises(ModelFileError, match=r"grey.onnx, which makes float32 \(1, 1, 72, 128\)"):
        peers.main(["starry_night.nano"], [f"grey={grey}"], "128x72", output=tmp_path / "p.json")
    assert not measured and not (tmp_path / "p.json").exists()
