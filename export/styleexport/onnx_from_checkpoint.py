"""A run's averaged generator as one fp32 ONNX file in the frame contract."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from styleexport.contract import INPUTS, OUTPUT, FrameContract
from styleexport.errors import ExportError
from styleexport.fp16_from_onnx import sealed
from stylesdk.manifest import Manifest
from styletrainer.config import TrainConfig, config_from_run
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import WEIGHTS, load_weights

OPSET = 18  # what torch's exporter writes whatever is asked between 16 and 23
# Tracing is symbolic: the size of the example decides nothing, and a small one is quick.
EXAMPLE = torch.zeros(1, 128, 192, 3, dtype=torch.uint8)


def generator_from_run(run: Path) -> tuple[nn.Module, TrainConfig]:
    """The averaged generator of a run folder, in training form, and the run's config."""
    config = config_from_run(run)
    generator = build_generator(config.generator, config.all_generator_options())
    load_weights(generator, run / WEIGHTS)
    return generator.eval(), config


def onnx_from_generator(generator: nn.Module, manifest: Manifest) -> bytes:
    """Serialised fp32 ONNX of the folded generator in the frame contract, dynamic H and W, ``manifest`` inside.

    Raises:
        ExportError: the graph fails onnx.checker or shape inference, or is not in the frame contract.
    """
    contract = contract_from_generator(generator)
    example = {"frame": EXAMPLE, "strength": torch.ones(1), "style": torch.zeros(contract.style_length)}
    inputs = INPUTS if contract.style_length else INPUTS[:2]
    model = traced(contract, {name: example[name] for name in inputs}, OUTPUT)
    _check_contract(model)
    _store_half(model)
    return sealed(model, manifest)


def contract_from_generator(generator: nn.Module) -> FrameContract:
    """The folded generator inside the frame contract."""
    folded: nn.Module = generator.fold()  # type: ignore[operator]
    return FrameContract(folded, int(getattr(generator, "styles", 1)), int(getattr(generator, "code", 0))).eval()


def traced(module: nn.Module, example: dict[str, Tensor], output: str) -> onnx.ModelProto:
    """``module`` as ONNX with the inputs of ``example``, of which ``frame`` keeps H and W free."""
    height = torch.export.Dim("height", min=16, max=8192)
    width = torch.export.Dim("width", min=16, max=8192)
    sizes: dict[str, Any] = {name: {1: height, 2: width} if name == "frame" else None for name in example}
    # The exporter logs every absent optional package, and warns about its own deprecations.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(example.values()),
            input_names=list(example),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=sizes,
            verbose=False,
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    return proto


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about this machine: every node carries local paths."""
    model.producer_name, model.producer_version, model.doc_string = "stylesdk", "", ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = "stylize"
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del model.graph.value_info[:]
    del model.functions[:]
    # Named sizes, the same in and out: the exporter writes the crop's arithmetic instead.
    frames = (v for v in (*model.graph.input, *model.graph.output) if len(v.type.tensor_type.shape.dim) == 4)
    for value in frames:
        for dimension, name in zip(value.type.tensor_type.shape.dim[1:3], ("height", "width"), strict=True):
            dimension.dim_param = name


def _store_half(model: onnx.ModelProto) -> None:
    """Store kernels in half precision, with a cast that every runtime folds when it loads the file.

    Nothing is lost where the generator's ``fold`` has rounded them; others stay as they are.
    """
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):  # infinity is not equal, and such a kernel stays as it is
            halved = values.astype(np.float16)
        if values.ndim == 4 and values.dtype == np.float32 and np.array_equal(halved, values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(halved, f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def _check_contract(model: onnx.ModelProto) -> None:
    uint8, float32 = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    found = [(v.name, v.type.tensor_type.elem_type) for v in (*model.graph.input, *model.graph.output)]
    wanted = [("frame", uint8), ("strength", float32), ("style", float32), ("styled", uint8)]
    if found not in (wanted, [entry for entry in wanted if entry[0] != "style"]):
        raise ExportError(f"got: inputs and outputs {found}; expected: {wanted}")
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise ExportError(f"got: opset {opset}; expected: {OPSET}. Do this: use a torch that exports opset {OPSET}.")
    first = next(n for n in model.graph.node if "frame" in n.input and n.op_type != "Shape")
    last = next(n for n in model.graph.node if "styled" in n.output)
    if first.op_type != "Cast" or last.op_type != "Cast":
        raise ExportError(
            f"got: {first.op_type} … {last.op_type}; expected: Cast first and last (TensorRT's rule for uint8)"
        )
