"""Several styles in one int8 network: behind each convolution a style scales and shifts every channel.

Bytes that served all channels alike would be coarse for those that a style enlarges. So each channel gets its own
range: its convolution gives -1 to 1, and the style's scale and shift take that back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from styleexport.onnx_graph import Graph

Array = NDArray[np.float32]


def style_nodes(graph: Graph, conv: NodeProto) -> list[NodeProto]:
    """The Mul and the Add behind a convolution, that apply a style's scale and shift; [] where there are none."""
    nodes: list[NodeProto] = []
    for kind in ("Mul", "Add"):
        readers = graph.consumers((nodes[-1] if nodes else conv).output[0])
        if [reader.op_type for reader in readers] != [kind]:
            return []
        nodes += readers
    return nodes


def spread_channels(graph: Graph, conv: NodeProto, low: Array, high: Array) -> None:
    """Make a convolution with ``style_nodes`` give -1 to 1 where it gave ``low`` to ``high`` (O,); they undo it."""
    mul, add = style_nodes(graph, conv)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-6)
    kernel, bias = kernel_and_bias(graph, conv)
    name = conv.output[0]
    constants = {
        "kernel": kernel / half[:, None, None, None],
        "bias": (bias - middle) / half,
        "middle": middle.reshape(1, -1, 1, 1),
        "half": half.reshape(1, -1, 1, 1),
    }
    spread = {k: graph.constant(f"{name}.spread.{k}", v.astype(np.float32)) for k, v in constants.items()}
    conv.input[:] = [conv.input[0], spread["kernel"], spread["bias"]]
    scale = next(t for t in mul.input if t != name)
    shift = next(t for t in add.input if t != mul.output[0])
    wide, back, moved = f"{name}.scale", f"{name}.back", f"{name}.shift"
    # scale * (middle + half * x) + shift, in an order that touches only small tensors.
    nodes = [
        helper.make_node("Mul", [scale, spread["half"]], [wide], name=wide),
        helper.make_node("Mul", [scale, spread["middle"]], [back], name=back),
        helper.make_node("Add", [shift, back], [moved], name=moved),
    ]
    graph.insert(mul, nodes)
    mul.input[:] = [name, wide]
    add.input[:] = [mul.output[0], moved]


def kernel_and_bias(graph: Graph, conv: NodeProto) -> tuple[Array, Array]:
    """Kernel (O, I, K, K) and bias (O,) of a convolution, zeros where it has none."""
    kernel = graph.constants[conv.input[1]]
    return kernel, graph.constants[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(kernel), np.float32)
