"""An fp32 ONNX of ours as int8: 8-bit convolutions between QuantizeLinear and DequantizeLinear.

What a convolution reads and writes is rounded to bytes: from 0 up where nothing is negative (after a Relu; the
picture itself), around 128 elsewhere. onnxruntime and OpenVINO are fastest with these;
``int8_for_tensorrt`` turns them into what TensorRT takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, helper

from styleexport.byte_layout import arrange_for_bytes
from styleexport.errors import ExportError
from styleexport.fp16_from_onnx import sealed
from styleexport.int8_equalize import equalize_channels
from styleexport.int8_rounding import Convolution, Rounded, rounded
from styleexport.int8_styles import kernel_and_bias, spread_channels, style_nodes
from styleexport.onnx_graph import Graph, attribute
from styleexport.verify import Sample
from stylesdk.manifest import STYLIZER, check_kind
from stylesdk.onnx_file import manifest_from_onnx

_MOVES = ("Cast", "Pad", "Transpose", "Reshape", "DepthToSpace", "Slice")  # values stay what they are
_BYTES = ".bytes"  # ends the name of a tensor after its rounding
_KEPT = 0.8  # of a range from 0 up. Larger values are rare: cutting them off costs less than coarser steps
_FLOAT_LAYERS = ("last convolution", "first convolution")
Tensors = dict[str, NDArray[Any]]
Range = tuple[NDArray[np.float32], NDArray[np.float32]]  # lowest and highest by channel


def int8_from_onnx(data: bytes, source: str, samples: Sequence[Sample], float_layers: int = 0) -> bytes:
    """Serialised fp32 model -> the same with 8-bit convolutions; inputs and outputs are unchanged.

    Args:
        data: an fp32 model of ours.
        source: what to call it in errors.
        samples: photographs to find ranges and rounding on, strength 1; of several styles, all of them.
        float_layers: 0 rounds every convolution, 1 all but the last, 2 all but the last and the first.

    Raises:
        ModelFileError: not an intact model of ours, or the encoder or chooser of one.
        ExportError: not an fp32 model.
    """
    manifest = manifest_from_onnx(data, source)
    check_kind(manifest, STYLIZER, source)
    if manifest.precision != "fp32":
        raise ExportError(f"got: {source}, precision {manifest.precision}; expected: an fp32 model")
    graph = Graph(onnx.load_model_from_string(data))
    arrange_for_bytes(graph)
    convs = [n for n in graph.nodes if n.op_type == "Conv" and attribute(n, "group") in (None, 1)]
    convs = convs[float_layers == 2 : len(convs) - (float_layers > 0)]
    feeds = [_feeds(sample) for sample in samples]
    equalize_channels(graph, convs, {t: high for t, (_, high) in _observed(graph, convs, feeds)[1].items()})
    exact, ranges = _observed(graph, convs, feeds)
    for conv in convs:
        if style_nodes(graph, conv):
            spread_channels(graph, conv, *ranges[conv.output[0]])
            ranges[conv.output[0]] = (-np.ones(1, np.float32), np.ones(1, np.float32))
    for tensor, (low, high) in ranges.items():
        _round_to_bytes(graph, tensor, float(low.min()), float(high.max()))
    # Layer by layer, on what the layers before it really give once they are rounded.
    for conv in convs:
        tensor = conv.input[0]
        for known, new in zip(feeds, _run(graph, feeds, [tensor]), strict=True):
            known.update(new)
        before = [values[tensor.removesuffix(_BYTES)] for values in exact]
        now = [known[tensor] for known in feeds]
        _put(graph, conv, rounded(_convolution(graph, conv), before, now))
    quality = {"float_layers": list(_FLOAT_LAYERS[:float_layers])} if float_layers else {}
    return sealed(graph.finished(), dataclasses.replace(manifest, precision="int8", quality=quality))


def _feeds(sample: Sample) -> Tensors:
    feeds: Tensors = {"frame": sample.frame[None], "strength": np.array([sample.strength], np.float32)}
    return feeds if sample.given is None else feeds | {"style": sample.given}


def _observed(
    graph: Graph, convs: Sequence[NodeProto], feeds: Sequence[Tensors]
) -> tuple[list[Tensors], dict[str, Range]]:
    """What the convolutions read of each picture, and the range by channel of all that they read and give."""
    inputs = list(dict.fromkeys(conv.input[0] for conv in convs))
    tensors = list(dict.fromkeys(t for conv in convs for t in (conv.input[0], _result(graph, conv))))
    exact: list[Tensors] = []
    lows: list[Tensors] = []
    highs: list[Tensors] = []
    for values in _run(graph, feeds, tensors):
        exact.append({name: values[name] for name in inputs})
        lows.append({name: value.min((0, 2, 3)) for name, value in values.items()})
        highs.append({name: value.max((0, 2, 3)) for name, value in values.items()})
    ranges = {t: (np.min([low[t] for low in lows], 0), np.max([high[t] for high in highs], 0)) for t in tensors}
    return exact, ranges


def _run(graph: Graph, known: Sequence[Tensors], wanted: Sequence[str]) -> Iterator[Tensors]:
    """The ``wanted`` tensors of each picture, from those that are known."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    part = graph.part(list(known[0]), wanted).SerializeToString()
    session = onnxruntime.InferenceSession(part, options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    for values in known:
        run = session.run(list(wanted), {name: values[name] for name in inputs})
        yield dict(zip(wanted, run, strict=True))


def _result(graph: Graph, conv: NodeProto) -> str:
    """What a convolution gives, after its Relu where it has one."""
    readers = graph.consumers(conv.output[0])
    return str(readers[0].output[0] if [r.op_type for r in readers] == ["Relu"] else conv.output[0])


def _round_to_bytes(graph: Graph, tensor: str, low: float, high: float) -> None:
    """Insert the rounding of a tensor, ``low`` to ``high``, between it and all that read it."""
    if _is_picture(graph, tensor):
        step, zero = 1.0, 0
    elif low >= 0:
        step, zero = high * _KEPT / 255 or 1.0, 0
    else:
        step, zero = max(high, -low) / 127, 128
    name = f"{tensor}{_BYTES}"
    scale = [
        graph.constant(f"{name}.step", np.array(step, np.float32)),
        graph.constant(f"{name}.zero", np.array(zero, np.uint8)),
    ]
    readers = graph.consumers(tensor)
    for reader in readers:
        reader.input[:] = [name if t == tensor else t for t in reader.input]
    rounding = [
        helper.make_node("QuantizeLinear", [tensor, *scale], [f"{name}.whole"], name=f"{name}.whole"),
        helper.make_node("DequantizeLinear", [f"{name}.whole", *scale], [name], name=name),
    ]
    graph.insert(min(readers, key=graph.nodes.index), rounding)


def _is_picture(graph: Graph, tensor: str) -> bool:
    """Whether a tensor holds the frame's own values, or those that will be blended with it: 0-255, whole in the end."""
    node = graph.producer(tensor)
    while node is not None and node.op_type in _MOVES:
        if node.input[0] == "frame":
            return True
        node = graph.producer(node.input[0])
    readers = graph.consumers(tensor)
    while len(readers) == 1 and readers[0].op_type in _MOVES:
        readers = graph.consumers(readers[0].output[0])
    return [r.op_type for r in readers] == ["Sub"]  # styled - photo


def _convolution(graph: Graph, conv: NodeProto) -> Convolution:
    stride = attribute(conv, "strides") or [1, 1]
    return Convolution(*kernel_and_bias(graph, conv), stride[0], tuple(attribute(conv, "pads") or [0] * 4))


def _put(graph: Graph, conv: NodeProto, new: Rounded) -> None:
    """Give a convolution its rounded kernel and bias, the bias in 32 bits and in units of what is summed up."""
    kernel, bias = f"{conv.output[0]}.kernel", f"{conv.output[0]}.bias"
    unit = (graph.constants[f"{conv.input[0]}.step"] * new.step).astype(np.float32)
    whole = np.rint(new.bias / unit).astype(np.int32)
    nodes = []
    for name, values, step in ((kernel, new.kernel, new.step), (bias, whole, unit)):
        constants = {"whole": values, "step": step, "zero": np.zeros(len(step), values.dtype)}
        inputs = [graph.constant(f"{name}.{key}", value) for key, value in constants.items()]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=0))
    graph.insert(conv, nodes)
    conv.input[:] = [conv.input[0], kernel, bias]
