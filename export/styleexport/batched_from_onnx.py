"""A model of ours for several frames at once, each with a strength and a style mix of its own.

| tensor          | dtype, shape        | meaning                                   |
|-----------------|---------------------|-------------------------------------------|
| frame (in)      | uint8 (N, H, W, 3)  | BGR, 0-255                                |
| strength (in)   | float32 (N, 1)      | 0 = the photo, 1 = the full style         |
| style (in)      | float32 (N, S)      | mixing weights, sum 1; with S > 1 styles  |
|                 | or float32 (N, C)   | codes of styles, where these are          |
| styled (out)    | uint8 (N, H, W, 3)  | BGR, same H and W                         |

In the file for one frame, strength and style first pass through nodes of their own, and then meet the picture. Here
these nodes get one more axis in front, and the meeting points are (N, C, 1, 1). Operators and their order stay, so
that a batch equals its frames one by one, in fp32 and int8 to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, helper

from styleexport.errors import ExportError
from styleexport.onnx_graph import Graph, attribute
from styleexport.verify import Sample, code_of, run_frames
from stylesdk.manifest import STYLIZER, Manifest, check_kind
from stylesdk.onnx_file import manifest_from_onnx

Shape = list[int]
_AXES = {"Unsqueeze": 1, "Squeeze": 1, "ReduceSum": 1, "Slice": 3}  # operator -> which input is its axes
_BYTE_ROWS = [1, -1, 0]  # how the shape begins with which `byte_layout` puts its rows together


def batched_from_onnx(data: bytes, source: str) -> bytes:
    """Serialised model of any precision -> the same for N frames of one size, without the manifest.

    Raises:
        ModelFileError: not an intact model of ours.
        ExportError: an operator on the way of ``strength`` or ``style`` that is not known here; or a batch that
            differs from its frames one by one.
    """
    manifest = manifest_from_onnx(data, source)
    check_kind(manifest, STYLIZER, source)
    model = onnx.load_model_from_string(data)
    graph = Graph(model)
    _widen_byte_rows(graph)
    _widen_items(graph, _item_shapes(model), source)
    batched = _finished(graph.finished(), source)
    _check_against_single(data, batched, manifest, source)
    return batched


def _item_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shape of every tensor that depends on ``strength`` or ``style``, and not on the frame."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info)
    }
    frames, items = {"frame"}, {"strength", "style"}.intersection(shapes)
    for node in inferred.node:
        if frames.intersection(node.input):
            frames.update(node.output)
        elif items.intersection(node.input):
            items.update(node.output)
    return {name: shapes.get(name, [0]) for name in items}


def _widen_items(graph: Graph, items: dict[str, Shape], source: str) -> None:
    for node in list(graph.nodes):
        if node.output[0] not in items:
            for tensor in [name for name in dict.fromkeys(node.input) if name in items]:
                _meet_frame(graph, node, tensor, items[tensor])
        elif not _widen(graph, node, items):
            raise ExportError(
                f"got: {source}, where {node.op_type} {node.output[0]} works on strength or style; expected: "
                "operators that batched_from_onnx.py knows.\nDo this: add its rule there."
            )


def _widen(graph: Graph, node: NodeProto, items: dict[str, Shape]) -> bool:
    """One more axis in front of what ``node`` makes of a frame's strength or style; False where it is not known."""
    name, shape = node.output[0], items[node.output[0]]
    if 0 in shape:
        return False
    if node.op_type == "Reshape":
        node.input[1] = graph.constant(f"{name}.each", np.array([-1, *shape], np.int64))
        del node.attribute[:]  # allowzero: every size is written out
    elif node.op_type in _AXES:
        _shift_axes(graph, node, len(items[node.input[0]]))
    elif node.op_type == "MatMul" and node.input[1] in graph.constants:
        # A matrix for each frame: one product for all of them may be summed in another order.
        node.input[1] = graph.constant(f"{name}.matrix", graph.constants[node.input[1]][None])
    elif node.op_type == "Gemm" and _is_plain(graph, node):
        _as_product(graph, node)
    elif node.op_type == "Split":
        axis = attribute(node, "axis") or 0
        kept = [a for a in node.attribute if a.name != "axis"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("axis", axis + (axis >= 0))])
    elif node.op_type in ("Mul", "Add", "Sub", "Div"):
        return all(len(items[tensor]) == len(shape) for tensor in node.input if tensor in items)
    else:
        return node.op_type in ("Cast", "Identity", "Relu", "LeakyRelu", "Sigmoid", "Tanh")
    return True


def _is_plain(graph: Graph, gemm: NodeProto) -> bool:
    """Whether a Gemm is the product with a constant matrix, plus a constant where there is one."""
    scales = [attribute(gemm, name) for name in ("alpha", "beta")]
    known = all(name in graph.constants for name in gemm.input[1:])
    return known and not attribute(gemm, "transA") and all(scale in (None, 1) for scale in scales)


def _as_product(graph: Graph, gemm: NodeProto) -> None:
    """A Gemm, which takes no third axis, as MatMul and Add."""
    name, matrix = gemm.output[0], graph.constants[gemm.input[1]]
    by = graph.constant(f"{name}.matrix", (matrix.T if attribute(gemm, "transB") else matrix)[None])
    biased = len(gemm.input) > 2
    product = f"{name}.product" if biased else name
    nodes = [helper.make_node("MatMul", [gemm.input[0], by], [product])]
    graph.replace(gemm, nodes + ([helper.make_node("Add", [product, gemm.input[2]], [name])] if biased else []))


def _shift_axes(graph: Graph, node: NodeProto, rank: int) -> None:
    at = _AXES[node.op_type]
    node.input.extend([""] * (at + 1 - len(node.input)))
    axes = graph.constants.get(node.input[at], np.arange(rank))  # without axes: all of them
    shifted = np.where(axes < 0, axes, axes + 1).astype(np.int64)
    node.input[at] = graph.constant(f"{node.output[0]}.axes", shifted)


def _meet_frame(graph: Graph, node: NodeProto, tensor: str, shape: Shape) -> None:
    """Where ``tensor`` of every frame meets the pictures: (N, *shape) -> (N, C, 1, 1) or (N, 1, 1, 1)."""
    # Aligned from the right, as broadcasting does; what is in front of the channels is 1.
    aligned = f"{tensor}.for.{node.output[0]}"
    sizes = [-1, *([1] * 4 + shape)[-3:]]
    target = graph.constant(f"{aligned}.shape", np.array(sizes, np.int64))
    graph.insert(node, [helper.make_node("Reshape", [tensor, target], [aligned], name=aligned)])
    for index, name in enumerate(node.input):
        if name == tensor:
            node.input[index] = aligned


def _widen_byte_rows(graph: Graph) -> None:
    """The rows that `byte_layout` puts together, for N frames: N stays in front instead of in the middle."""
    for merge in [n for n in graph.nodes if n.op_type == "Reshape"]:
        target = graph.constants.get(merge.input[1])
        if target is None or target.tolist()[:3] != _BYTE_ROWS:
            continue
        joined = graph.producer(merge.input[0])
        turned = graph.producer(joined.input[0]) if joined else None
        assert joined is not None and turned is not None
        name, channels = merge.output[0], int(target[3])
        turned.attribute[0].CopyFrom(helper.make_attribute("perm", [0, 1, 3, 2, 4]))  # N, h, b, w, b*C
        joined.input[1] = graph.constant(f"{name}.join", np.array([0, 0, 0, -1, channels]))  # N, h, b, w*b, C
        minus = graph.constant(f"{name}.rows", np.array([-1]))
        parts = [f"{name}.frames", minus, f"{name}.width"]
        merge.input[1] = f"{name}.sizes"
        graph.insert(
            merge,
            [
                helper.make_node("Shape", [joined.output[0]], [parts[0]], name=parts[0], start=0, end=1),
                helper.make_node("Shape", [joined.output[0]], [parts[2]], name=parts[2], start=3, end=5),
                helper.make_node("Concat", parts, [merge.input[1]], name=merge.input[1], axis=0),  # N, -1, w*b, C
            ],
        )


def _finished(model: onnx.ModelProto, source: str) -> bytes:
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name in ("strength", "style"):
            size = dims[0].dim_value
            dims.add().dim_value = size
        dims[0].dim_param = "batch"
    # It is no longer in the frame contract, and must not pass for a file that is.
    del model.metadata_props[:]
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"got: {source}, whose batched graph onnx refuses: {error}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _check_against_single(single: bytes, batched: bytes, manifest: Manifest, source: str) -> None:
    """Three frames of noise, each with another strength and mix, against the same one by one."""
    random, styles = np.random.default_rng(0), len(manifest.styles)
    frames = random.integers(0, 256, (3, 67, 90, 3), dtype=np.uint8)  # no stride divides these
    mixes = random.dirichlet(np.ones(styles), 3).astype(np.float32)
    samples = [
        Sample(frame, strength, mix if styles > 1 else None, code_of(mix, manifest.codes))
        for frame, strength, mix in zip(frames, (1.0, 0.0, 0.4), mixes, strict=True)
    ]
    wanted, found = np.stack(run_frames(single, samples)), run_batch(batched, samples)
    # A CPU computes fp16 in fp32, and leaves out roundings between casts where they meet: not the same ones here.
    # A mix of styles adds in another order.
    allowed = 1 if manifest.precision == "fp16" or manifest.style_length else 0
    if wanted.shape != found.shape or (largest := np.abs(wanted.astype(np.int16) - found).max()) > allowed:
        what = found.shape if wanted.shape != found.shape else f"by up to {largest} of 255"
        raise ExportError(
            f"got: {source}, whose frames in a batch differ ({what}) from the same one by one; "
            f"expected: by at most {allowed}.\nDo this: report it with the model; without a batch it runs as a plan."
        )


def run_batch(batched: bytes, samples: Sequence[Sample]) -> NDArray[np.uint8]:
    """A batched model on samples of one size, in one call, on the CPU: uint8 (N, H, W, 3)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(batched, options, providers=["CPUExecutionProvider"])
    feeds = {
        "frame": np.stack([sample.frame for sample in samples]),
        "strength": np.array([[sample.strength] for sample in samples], np.float32),
    }
    if samples[0].given is not None:
        feeds["style"] = np.stack([sample.given for sample in samples if sample.given is not None])
    styled: NDArray[np.uint8] = session.run(["styled"], feeds)[0]
    return styled
