"""The arrangement of an int8 graph in which runtimes move bytes, and few of them.

A convolution on bytes keeps the channels of a pixel together (NHWC). DepthToSpace wants them apart (NCHW), and
onnxruntime takes as long for it as for a convolution. With the channels in the order sub-row, sub-column,
colour, a row of sub-pixels lies in memory as it will lie in the picture, and the shuffle copies whole runs of it.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from styleexport.onnx_graph import Graph, attribute


def arrange_for_bytes(graph: Graph) -> None:
    """Rewrite each DepthToSpace that follows a convolution; the graph computes the same as before."""
    for node in [n for n in graph.nodes if n.op_type == "DepthToSpace"]:
        conv = graph.producer(node.input[0])
        alone = len(graph.consumers(node.input[0])) == 1
        if conv is not None and conv.op_type == "Conv" and alone and attribute(node, "mode") == b"CRD":
            _reorder_channels(graph, conv, attribute(node, "blocksize"))
            _replace_shuffle(graph, node, attribute(node, "blocksize"))


def _reorder_channels(graph: Graph, conv: NodeProto, block: int) -> None:
    """Colour, sub-row, sub-column -> sub-row, sub-column, colour."""
    for index, name in enumerate(conv.input[1:], 1):
        values = graph.constants[name]
        apart = values.reshape(-1, block, block, *values.shape[1:])
        conv.input[index] = graph.constant(f"{name}.by_row", np.moveaxis(apart, 0, 2).reshape(values.shape))


def _replace_shuffle(graph: Graph, node: NodeProto, block: int) -> None:
    """(1, b*b*C, h, w), channels in the new order -> (1, C, h*b, w*b). In a shape, 0 keeps the size at its place."""
    conv = graph.producer(node.input[0])
    assert conv is not None
    run = len(graph.constants[conv.input[1]]) // block  # bytes that stay together: b*C
    steps = [
        ("Transpose", [0, 2, 3, 1]),  # 1, h, w, b*b*C
        ("Reshape", [0, 0, 0, block, run]),
        ("Transpose", [1, 3, 2, 0, 4]),  # h, b, w, 1, b*C
        ("Reshape", [0, 0, -1, run // block]),  # h, b, w*b, C
        ("Reshape", [1, -1, 0, run // block]),  # 1, h*b, w*b, C
        ("Transpose", [0, 3, 1, 2]),
    ]
    nodes, tensor = [], node.input[0]
    for index, (kind, numbers) in enumerate(steps):
        result = node.output[0] if index == len(steps) - 1 else f"{node.output[0]}.{index}"
        if kind == "Transpose":
            nodes.append(helper.make_node(kind, [tensor], [result], name=result, perm=numbers))
        else:
            shape = graph.constant(f"{result}.shape", np.array(numbers, np.int64))
            nodes.append(helper.make_node(kind, [tensor, shape], [result], name=result))
        tensor = result
    graph.replace(node, nodes)
