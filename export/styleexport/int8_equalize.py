"""Evener channels for one range of bytes, moved from one convolution into the next, which changes no result.

A tensor's bytes have one step for all channels. A channel whose values stay small gets few of the 256, so it is made
larger, and what reads it takes that back: cross-layer equalization (Nagel et al. 2019), which Relu lets through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from styleexport.int8_styles import kernel_and_bias
from styleexport.onnx_graph import Graph

# Of the way to channels of equal range. All of it leaves the next kernel so uneven that *its* bytes lose more.
_EVENED = 0.7
_SMALLEST = 1e-3  # of the largest channel: one that hardly ever speaks is not blown up further


def equalize_channels(graph: Graph, convs: Sequence[NodeProto], highest: Mapping[str, NDArray[Any]]) -> None:
    """Even out what one of ``convs`` gives another alone, through a Relu; the graph computes the same as before.

    Args:
        graph: rewritten in place.
        convs: convolutions of one group, of ``graph``.
        highest: the largest value by channel (O,) of each Relu's result.
    """
    for conv in convs:
        relus = graph.consumers(conv.output[0])
        if [relu.op_type for relu in relus] != ["Relu"]:
            continue
        tensor = relus[0].output[0]
        readers = graph.consumers(tensor)
        if len(readers) != 1 or readers[0] not in convs:
            continue
        largest = np.maximum(highest[tensor], max(highest[tensor].max(), 1e-9) * _SMALLEST)
        share = ((largest / largest.max()) ** _EVENED).astype(np.float32)
        _scale_results(graph, conv, 1 / share)
        _scale_inputs(graph, readers[0], share)


def _scale_results(graph: Graph, conv: NodeProto, scale: NDArray[np.float32]) -> None:
    kernel, bias = kernel_and_bias(graph, conv)
    name = conv.output[0]
    conv.input[:] = [
        conv.input[0],
        graph.constant(f"{name}.even.kernel", kernel * scale[:, None, None, None]),
        graph.constant(f"{name}.even.bias", bias * scale),
    ]


def _scale_inputs(graph: Graph, conv: NodeProto, scale: NDArray[np.float32]) -> None:
    kernel = graph.constants[conv.input[1]] * scale[:, None, None]
    conv.input[1] = graph.constant(f"{conv.output[0]}.uneven.kernel", kernel)
