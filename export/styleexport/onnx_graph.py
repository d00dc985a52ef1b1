"""An ONNX graph for rewriting: nodes in order, constants as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper


class Graph:
    """The graph of ``model``, which stays as it is; ``finished`` gives the rewritten one.

    Kernels that the file stores in half precision, with a Cast, are constants in float32 here.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.nodes: list[NodeProto] = list(self._model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in self._model.graph.initializer}
        for node in [n for n in self.nodes if n.op_type == "Cast" and n.input[0] in self.constants]:
            dtype = helper.tensor_dtype_to_np_dtype(attribute(node, "to"))
            self.constants[node.output[0]] = self.constants[node.input[0]].astype(dtype)
            self.nodes.remove(node)

    def producer(self, tensor: str) -> NodeProto | None:
        """The node that makes ``tensor``; None for inputs and constants."""
        return next((n for n in self.nodes if tensor in n.output), None)

    def consumers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read ``tensor``."""
        return [n for n in self.nodes if tensor in n.input]

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant; returns ``name``."""
        self.constants[name] = values
        return name

    def insert(self, before: NodeProto, nodes: Sequence[NodeProto]) -> None:
        """Insert ``nodes`` before a node."""
        at = self.nodes.index(before)
        self.nodes[at:at] = nodes

    def replace(self, node: NodeProto, nodes: Sequence[NodeProto]) -> None:
        """Put ``nodes`` in the place of ``node``."""
        at = self.nodes.index(node)
        self.nodes[at : at + 1] = nodes

    def finished(self) -> onnx.ModelProto:
        """The model as it is now, without constants that nothing reads."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        _fill(model.graph, self.nodes, self.constants)
        return model

    def part(self, known: Sequence[str], wanted: Sequence[str]) -> onnx.ModelProto:
        """The nodes that lead from the tensors ``known`` to the tensors ``wanted``, as a model of their own."""
        needed, nodes = set(wanted), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output).difference(known):
                nodes.append(node)
                needed.update(node.input)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        inputs = {value.name: value for value in self._model.graph.input}
        untyped = onnx.TensorProto.FLOAT
        del model.graph.input[:], model.graph.output[:]
        for name in sorted(needed.intersection(known)):
            model.graph.input.append(inputs.get(name) or helper.make_tensor_value_info(name, untyped, None))
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        _fill(model.graph, nodes[::-1], self.constants)
        return model


def attribute(node: NodeProto, name: str) -> Any:
    """The value of an attribute; None where the node has none of that name."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _fill(graph: onnx.GraphProto, nodes: Sequence[NodeProto], constants: dict[str, NDArray[Any]]) -> None:
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v, order="C"), name) for name, v in constants.items() if name in used
    )
