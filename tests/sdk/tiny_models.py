"""Tiny ONNX models in the frame contract, with known answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from styleexport.fp16_from_onnx import sealed
from stylesdk.manifest import Manifest

LEVELS = (40, 120, 250)  # the even grey that each style paints


def painting_onnx(styles: Sequence[str], weights: int | str | None = None) -> bytes:
    """A model whose style k paints everything in ``LEVELS[k]``.

    ``weights`` is the size of its input ``style``, None for no such input: then it is style 0 that paints.
    """
    levels = np.array(LEVELS[: weights if isinstance(weights, int) else len(styles)], np.float32)
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
