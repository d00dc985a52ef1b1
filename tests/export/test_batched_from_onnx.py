"""What a batch computes: each frame with its own strength and mix, as one by one."""

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from styleexport.batched_from_onnx import batched_from_onnx, run_batch
from styleexport.errors import ExportError
from styleexport.fp16_from_onnx import fp16_from_onnx, sealed
from styleexport.int8_from_onnx import int8_from_onnx
from styleexport.onnx_from_checkpoint import onnx_from_generator
from styleexport.verify import Sample, run_frames
from stylesdk.live.scene import render_frame
from stylesdk.manifest import Manifest
from stylesdk.styles import resolve
from styletrainer.generators import Realtime


def shipped(name):
    return resolve(name).read_bytes()


@pytest.fixture(scope="module")
def fresh():
    """An untrained network of two styles, as the export writes it today."""
    return onnx_from_generator(Realtime("nano", styles=2).eval(), Manifest("duo", ("a", "b"), 8, "fp32", "Apache-2.0"))


def samples(styles, count=4, size=(90, 131)):
    """Frames, strengths and mixes that all differ."""
    random = np.random.default_rng(3)
    mixes = random.dirichlet(np.ones(styles), count).astype(np.float32)
    return [
        Sample(render_frame(20 * i, 100, size), strength, mixes[i] if styles > 1 else None)
        for i, strength in enumerate(np.linspace(1, 0.15, count))
    ]


def both_ways(data, styles, **options):
    asked = samples(styles, **options)
    return np.stack(run_frames(data, asked)), run_batch(batched_from_onnx(data, "x"), asked)


@pytest.mark.parametrize("name", ["starry_night.nano", "wave", "starry_night.nano.int8", "shipwreck.int8"])
def test_a_batch_equals_its_frames_one_by_one(name):
    single, batch = both_ways(shipped(name), 1)
    assert np.array_equal(single, batch)
    assert len({frame.tobytes() for frame in batch}) == 4


def test_every_frame_has_its_own_mix_of_six():
    single, batch = both_ways(shipped("six"), 6)
    difference = np.abs(single.astype(int) - batch)
    assert difference.max() <= 1 and difference.mean() < 1e-3
    data, asked = batched_from_onnx(shipped("six"), "six"), samples(6)
    swapped = [dataclasses.replace(asked[0], style=asked[1].style), *asked[1:]]
    assert not np.array_equal(run_batch(data, swapped)[0], batch[0])
    assert np.array_equal(run_batch(data, swapped)[1:], batch[1:])


def test_networks_that_the_export_writes_today(fresh):
    for data in (fresh, int8_from_onnx(fresh, "x", samples(2))):
        single, batch = both_ways(data, 2)
        assert np.array_equal(single, batch)


def test_fp16_differs_by_a_rounding_at_most(fresh):
    for data, styles in ((shipped("starry_night.nano"), 1), (fresh, 2)):
        single, batch = both_ways(fp16_from_onnx(data, "x"), styles)
        assert np.abs(single.astype(int) - batch).max() <= 1
        assert (single != batch).mean() < 0.02


@pytest.mark.parametrize(("count", "size"), [(1, (64, 64)), (8, (17, 33)), (3, (240, 320))])
def test_any_number_of_frames_of_any_size(count, size):
    single, batch = both_ways(shipped("starry_night.nano"), 1, count=count, size=size)
    assert np.array_equal(single, batch)


def painting(mix):
    """A model of two styles, even greys of 40 and 120; ``mix`` is how it gets the level, and what it needs for that."""
    nodes, constants = mix
    nodes = [
        helper.make_node("Cast", ["frame"], ["photo"], to=TensorProto.FLOAT),
        *nodes,
        helper.make_node("Sub", ["level", "photo"], ["way"]),
        helper.make_node("Mul", ["way", "strength"], ["step"]),
        helper.make_node("Add", ["photo", "step"], ["blend"]),
        helper.make_node("Round", ["blend"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["styled"], to=TensorProto.UINT8),
    ]
    shape = [1, "height", "width", 3]
    inputs = [
        ("frame", TensorProto.UINT8, shape),
        ("strength", TensorProto.FLOAT, [1]),
        ("style", TensorProto.FLOAT, [2]),
    ]
    graph = helper.make_graph(
        nodes,
        "paint",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info("styled", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return sealed(model, Manifest("paint", ("dark", "light"), 1, "fp32", "Apache-2.0"))


LEVELS = np.array([40, 120], np.float32)
MIXES = {
    "all axes": (
        [
            helper.make_node("Mul", ["style", "levels"], ["parts"]),
            helper.make_node("ReduceSum", ["parts"], ["level"], keepdims=0),
        ],
        {"levels": LEVELS},
    ),
    "last axis": (
        [
            helper.make_node("Mul", ["style", "levels"], ["parts"]),
            helper.make_node("ReduceSum", ["parts", "last"], ["level"], keepdims=1),
        ],
        {"levels": LEVELS, "last": np.array([-1])},
    ),
    "matrix": (
        [
            helper.make_node("Unsqueeze", ["style", "first"], ["row"]),
            helper.make_node("MatMul", ["row", "levels"], ["level"]),
        ],
        {"levels": LEVELS[:, None], "first": np.array([0])},
    ),
}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_known_answers(mix):
    data = batched_from_onnx(painting(mix), "paint")
    photo = np.full((20, 30, 3), 200, np.uint8)
    asked = [(1, (1, 0)), (1, (0, 1)), (0.5, (0, 1)), (0, (1, 0)), (1, (0.75, 0.25))]
    styled = run_batch(data, [Sample(photo, strength, np.array(style, np.float32)) for strength, style in asked])
    assert [np.unique(frame).tolist() for frame in styled] == [[40], [120], [160], [200], [60]]


@pytest.mark.parametrize(
    "mix",
    [
        (
            [
                helper.make_node("Softmax", ["style"], ["soft"]),
                helper.make_node("Mul", ["soft", "levels"], ["parts"]),
                helper.make_node("ReduceSum", ["parts"], ["level"], keepdims=0),
            ],
            {"levels": LEVELS},
        ),
        (
            [
                helper.make_node("Mul", ["style", "levels"], ["parts"]),
                helper.make_node("ReduceSum", ["parts"], ["level"], keepdims=0),
            ],
            {"levels": LEVELS[None]},
        ),
    ],
    ids=["Softmax", "Mul"],
)
def test_a_graph_that_cannot_be_rewritten_is_refused(mix):
    with pytest.raises(ExportError, match="works on strength or style"):
        batched_from_onnx(painting(mix), "paint")


def test_a_graph_that_mixes_frames_is_refused():
    """A mean over the axis of frames is right for one, and wrong for several."""
    nodes = [
        helper.make_node("Mul", ["style", "levels"], ["parts"]),
        helper.make_node("ReduceSum", ["parts"], ["even"], keepdims=0),
        helper.make_node("ReduceMean", ["photo", "first"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["mean", "photo"], ["nothing"]),
        helper.make_node("Add", ["even", "nothing"], ["level"]),
    ]
    with pytest.raises(ExportError, match=r"differ \(by up to"):
        batched_from_onnx(painting((nodes, {"levels": LEVELS, "first": np.array([0])})), "paint")
