"""An fp32 ONNX of ours as fp16: precision lives in the graph, since TensorRT 11 has no flag for it."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from styleexport.errors import ExportError
from stylesdk.manifest import KEY, STYLIZER, Manifest, check_kind, sha256_of_onnx
from stylesdk.onnx_file import manifest_from_onnx

_LARGEST = float(np.finfo(np.float16).max)


def fp16_from_onnx(data: bytes, source: str) -> bytes:
    """Serialised fp32 model -> the same with fp16 weights and arithmetic; inputs and outputs are unchanged.

    Raises:
        ModelFileError: not an intact model of ours, or the encoder or chooser of one.
        ExportError: not an fp32 model, or a weight that fp16 cannot hold.
    """
    manifest = manifest_from_onnx(data, source)
    check_kind(manifest, STYLIZER, source)  # what is computed once stays in fp32
    if manifest.precision != "fp32":
        raise ExportError(f"got: {source}, precision {manifest.precision}; expected: an fp32 model")
    model = onnx.load_model_from_string(data)
    graph = model.graph
    # The scales of a Resize are float32 by definition.
    scales = {node.input[2] for node in graph.node if node.op_type == "Resize" and len(node.input) > 2}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in scales:
            tensor.CopyFrom(_half(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            constant = node.op_type == "Constant" and attribute.name == "value"
            if constant and attribute.t.data_type == TensorProto.FLOAT and node.output[0] not in scales:
                attribute.t.CopyFrom(_half(attribute.t))
        for index, name in enumerate(node.input):
            if name in ("strength", "style"):
                node.input[index] = f"{name}_fp16"
    for name in (value.name for value in graph.input if value.name != "frame"):
        graph.node.insert(0, helper.make_node("Cast", [name], [f"{name}_fp16"], to=TensorProto.FLOAT16))
    _keep_norms_wide(graph)
    del graph.value_info[:]
    return sealed(model, dataclasses.replace(manifest, precision="fp16", quality={}))


def _keep_norms_wide(graph: onnx.GraphProto) -> None:
    """Instance normalisation in fp32: fp16 holds no sum over the pixels of a large frame."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type != "InstanceNormalization":
            graph.node.append(node)
            continue
        wide = [f"{node.output[0]}_{name}" for name in ("wide_input", "scale", "shift", "wide_output")]
        casts = zip(node.input, wide[:3], strict=True)
        graph.node.extend(helper.make_node("Cast", [name], [to], to=TensorProto.FLOAT) for name, to in casts)
        graph.node.append(helper.make_node("InstanceNormalization", wide[:3], wide[3:]))
        graph.node[-1].attribute.extend(node.attribute)
        graph.node.append(helper.make_node("Cast", wide[3:], node.output, to=TensorProto.FLOAT16))


def _half(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if not np.all(np.abs(values) <= _LARGEST):
        raise ExportError(
            f"got: weight {tensor.name} up to {np.abs(values).max():.3g}; expected: at most {_LARGEST:.0f}, "
            "what fp16 holds.\nDo this: train longer, or export fp32 only (--precision fp32)."
        )
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def sealed(model: onnx.ModelProto, manifest: Manifest) -> bytes:
    """The checked model, serialised with ``manifest`` and the hash over both inside.

    Raises:
        ExportError: onnx.checker or shape inference refuses the graph.
    """
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"got: a graph that onnx refuses: {error}") from error
    manifest = dataclasses.replace(manifest, sha256=Manifest.sha256)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=manifest.to_json())
    data = model.SerializeToString(deterministic=True)
    digest = sha256_of_onnx(data, manifest)
    return data.replace(f'"sha256":"{manifest.sha256}"'.encode(), f'"sha256":"{digest}"'.encode(), 1)
