"""An int8 ONNX of ours in the form that TensorRT takes: signed bytes around 0, biases in float.

TensorRT reads unsigned bytes as signed ones without a word, and knows no zero point. So what was rounded to bytes
from 0 up has half the steps left; the frame itself and the styled picture, where that would be seen, stay in
float, and so do the first convolution and the last one's result.

What that costs is checked on the demo's rendered scene against the int8 file that users run: our files differ by 1.2
to 1.8 steps of 255 on average and up to 110 (a hard edge that comes out elsewhere), on photos by up to 2.6 and 109.
`TOLERANCES["int8 plan"]` lets 3 and 128 through. Smooth noise in full colours, which no camera sees, gives up to 5.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto

from styleexport.onnx_graph import Graph
from styleexport.verify import Codes, Difference, Sample, run_frames, samples_of, verify_each_style
from stylesdk.live.scene import render_frame
from stylesdk.onnx_file import manifest_from_onnx

_KEPT = 0.75  # of a range. Larger values are rare: cutting them off costs less than the coarser steps that they need


def int8_plan_within_tolerance(data: bytes, source: str) -> tuple[bytes, Difference]:
    """What a plan of an int8 model is built from, and how far its pictures are from that model's.

    Both are computed node by node, each rounding where the graph has it; so the same on every CPU, while the fast
    products of bytes saturate on some.

    Raises:
        ModelFileError: not an intact model of ours.
        ExportError: a style outside the tolerance.
    """
    manifest, signed = manifest_from_onnx(data, source), int8_for_tensorrt(data)
    styles, samples = manifest.styles, scene_samples(len(manifest.styles), manifest.codes)
    wanted, found = (run_frames(model, samples, as_written=True) for model in (data, signed))
    what = f"{source} as TensorRT takes it"
    return signed, verify_each_style(samples, styles, wanted, found, "int8 plan", what)


def scene_samples(styles: int, codes: Codes | None = None) -> list[Sample]:
    """Frames of the demo's scene, as ``verification_samples`` has photos."""
    pictures = [render_frame(17 * index, 160, (384, 512))[:, :, ::-1] for index in range(8)]
    return samples_of(pictures, styles, codes)


def int8_for_tensorrt(data: bytes) -> bytes:
    """Serialised int8 model -> the same for TensorRT's parser. It has no manifest: nobody else is to run it."""
    model = onnx.load_model_from_string(data)
    del model.metadata_props[:]
    graph = Graph(model)
    for node in [n for n in graph.nodes if n.op_type == "QuantizeLinear"]:
        _sign(graph, node)
    for node in [n for n in graph.nodes if n.op_type == "DequantizeLinear" and n.input[0] in graph.constants]:
        _to_float_if_needed(graph, node)
    return graph.finished().SerializeToString(deterministic=True)


def _sign(graph: Graph, quantize: NodeProto) -> None:
    """Rewrite a pair of QuantizeLinear and DequantizeLinear; drop it where whole numbers 0-255 pass."""
    (dequantize,) = graph.consumers(quantize.output[0])
    step, zero = (graph.constants[name] for name in quantize.input[1:])
    if step == 1 and zero == 0:
        for reader in graph.consumers(dequantize.output[0]):
            reader.input[:] = [quantize.input[0] if t == dequantize.output[0] else t for t in reader.input]
        graph.nodes.remove(quantize)
        graph.nodes.remove(dequantize)
        return
    signed = step if zero == 128 else step * _KEPT * 255 / 127
    for node in (quantize, dequantize):
        node.input[1] = graph.constant(f"{dequantize.output[0]}.signed_step", np.asarray(signed, np.float32))
        node.input[2] = graph.constant(f"{dequantize.output[0]}.signed_zero", np.array(0, np.int8))


def _to_float_if_needed(graph: Graph, dequantize: NodeProto) -> None:
    """Fold a constant's DequantizeLinear: that of a bias, and that of a kernel whose input is not rounded."""
    (conv,) = graph.consumers(dequantize.output[0])
    source = graph.producer(conv.input[0])
    whole, step = (graph.constants[name] for name in dequantize.input[:2])
    if whole.dtype == np.int8 and source is not None and source.op_type == "DequantizeLinear":
        return
    scaled = whole.astype(np.float32) * step.reshape(-1, *[1] * (whole.ndim - 1))
    conv.input[:] = [
        graph.constant(f"{name}.float", scaled) if name == dequantize.output[0] else name for name in conv.input
    ]
    graph.nodes.remove(dequantize)
