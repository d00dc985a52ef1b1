"""Tiny ONNX models in the frame contract, with known answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from styleexport.fp16_from_onnx import sealed
from stylesdk.manifest import Manifest
from stylesdk.onnx_file import manifest_from_onnx

LEVELS = (40, 120, 250)  # the even grey that each style paints


def painting_onnx(styles: Sequence[str], weights: int | str | None = None, greys: Sequence[float] = LEVELS) -> bytes:
    """A model whose style k paints everything in ``greys[k]``.

    ``weights`` is the size of its input ``style``, None for no such input: then it is style 0 that paints.
    """
    levels = np.array(greys[: weights if isinstance(weights, int) else len(styles)], np.float32)
    nodes = [
        helper.make_node("Cast", ["frame"], ["photo"], to=TensorProto.FLOAT),
        *(
            [helper.make_node("Identity", ["levels"], ["level"])]
            if weights is None
            else [
                helper.make_node("Mul", ["style", "levels"], ["parts"]),
                helper.make_node("ReduceSum", ["parts"], ["level"], keepdims=0),
            ]
        ),
        helper.make_node("Sub", ["level", "photo"], ["way"]),
        helper.make_node("Mul", ["way", "strength"], ["step"]),
        helper.make_node("Add", ["photo", "step"], ["blend"]),
        helper.make_node("Round", ["blend"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["styled"], to=TensorProto.UINT8),
    ]
    shape = [1, "height", "width", 3]
    inputs = [
        helper.make_tensor_value_info("frame", TensorProto.UINT8, shape),
        helper.make_tensor_value_info("strength", TensorProto.FLOAT, [1]),
    ]
    if weights is not None:
        inputs.append(helper.make_tensor_value_info("style", TensorProto.FLOAT, [weights]))
    else:
        levels = levels[:1]
    outputs = [helper.make_tensor_value_info("styled", TensorProto.UINT8, shape)]
    graph = helper.make_graph(nodes, "paint", inputs, outputs, [numpy_helper.from_array(levels, "levels")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return sealed(model, Manifest("paint", tuple(styles), 1, "fp32", "Apache-2.0"))


CODES = ((40.0, 0.0, 0.0), (0.0, 100.0, 20.0))  # of the styles "low" and "high"


def picture_onnx(kind: str, name: str, styles: Sequence[str], factor: float = 1.0) -> bytes:
    """An encoder or a chooser that gives the mean blue, green and red of a picture, times ``factor``."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["photo"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["photo", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["style"]),
    ]
    constants = {"axes": np.array([0, 1, 2], np.int64), "factor": np.array(factor, np.float32)}
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, "height", "width", 3])],
        [helper.make_tensor_value_info("style", TensorProto.FLOAT, [3])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return sealed(model, Manifest(name, tuple(styles), 1, "fp32", "Apache-2.0", kind=kind))


def write_with_companions(folder: Path, model: bytes, companions: dict[str, bytes], **changes: object) -> Path:
    """``model`` as ``paint.onnx``, which knows of its ``companions``, and these beside it."""
    hashes = {kind: manifest_from_onnx(data, kind).sha256 for kind, data in companions.items()}
    manifest = dataclasses.replace(manifest_from_onnx(model, "model"), companions=hashes, **changes)  # type: ignore[arg-type]
    path = folder / "paint.onnx"
    path.write_bytes(sealed(onnx.load_model_from_string(model), manifest))
    for kind, data in companions.items():
        (folder / f"paint.{kind}.onnx").write_bytes(data)
    return path


def coded_onnx() -> bytes:
    """A model that paints everything in the grey of the sum of its code's three numbers."""
    model = onnx.load_model_from_string(painting_onnx(("low", "high", "other"), 3))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "levels"))
    return sealed(model, Manifest("paint", ("low", "high"), 1, "fp32", "Apache-2.0", codes=CODES))
