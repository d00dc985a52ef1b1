"""The config of a model in a Triton repository: built and checked with the server's own protobuf schema."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import onnx

from styleexport.errors import ExportError
from stylesdk.backends.triton import Tensors, contract_tensors
from stylesdk.errors import MissingExtraError
from stylesdk.manifest import KEY, Manifest

Size = tuple[int, int]  # height, width in pixels
_PREFERRED = (4, 8)  # frames; the largest one is also the most that is joined
_DELAY = 2000  # microseconds that a frame waits for others: an eighth of a frame's time at 60 a second
_INSTANCES = 1  # a GPU; a second one overlaps its copies with the first one's work, for twice the memory
_ONNX_TYPES = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def onnx_config(name: str, manifest: Manifest, warm_up: Size) -> str:
    """config.pbtxt of a batched ONNX model, on onnxruntime.

    Args:
        name: of the model, which is its folder's too.
        manifest: goes into the parameters, where clients read the styles' names.
        warm_up: (height, width) of the frames that the server runs before it calls the model ready.

    Raises:
        MissingExtraError: tritonclient is not installed.
    """
    config = _config(name, "onnxruntime", manifest, batched=True)
    config["max_batch_size"] = _PREFERRED[-1]
    config["dynamic_batching"] = {
        "preferred_batch_size": list(_PREFERRED),
        "max_queue_delay_microseconds": _DELAY,
    }
    config["model_warmup"] = [_warm_up(config, warm_up, frames) for frames in (1, *_PREFERRED)]
    return _text(config)


def plan_config(name: str, manifest: Manifest, files: Mapping[str, str], warm_up: Size) -> str:
    """config.pbtxt of TensorRT plans of one size, on one TensorRT.

    Args:
        name: of the model, which is its folder's too.
        manifest: of the plans; what differs between them left out.
        files: compute capability -> file name; a single one is the plan for every GPU.
        warm_up: (height, width) of the first frame, where the manifest has no size that the plan is made fast for.

    Raises:
        MissingExtraError: tritonclient is not installed.
    """
    config = _config(name, "tensorrt", manifest, batched=False)
    config["max_batch_size"] = 0
    if len(files) > 1:
        config["cc_model_filenames"] = dict(files)
    if manifest.min_size == manifest.max_size:
        # A CUDA graph is of one size.
        config["optimization"] = {"cuda": {"graphs": True}}
    config["model_warmup"] = [_warm_up(config, manifest.opt_size or warm_up, 1)]
    return _text(config)


def check_config(text: str, manifest: Manifest, name: str, graph: bytes | None = None) -> None:
    """Refuse a config that the server's schema does not parse, or that does not agree with what it is the config of.

    Args:
        text: config.pbtxt.
        manifest: what the model promises.
        name: of the model's folder.
        graph: serialised batched ONNX of the model; None for plans, whose sidecar is the manifest.

    Raises:
        ExportError: says what differs.
        MissingExtraError: tritonclient is not installed.
    """
    config = _parsed(text)
    if config.name != name:
        raise ExportError(f"got: a config of {config.name!r}; expected: {name!r}, the name of its folder")
    batched = config.max_batch_size > 0
    types = _schema().DataType
    found = {t.name: (types.Name(t.data_type), list(t.dims)) for t in (*config.input, *config.output)}
    expected = contract_tensors(manifest, batched=batched)
    if found != expected:
        raise ExportError(f"got: {name}, whose config has the tensors {found}; expected: {expected}, the manifest's")
    if graph is not None and (tensors := _graph_tensors(graph)) != found:
        raise ExportError(f"got: {name}, whose graph has the tensors {tensors}; expected: {found}, the config's")
    if config.parameters[KEY].string_value != manifest.to_json():
        raise ExportError(f"got: {name}, whose config has another manifest; expected: the model's")


def _config(name: str, backend: str, manifest: Manifest, *, batched: bool) -> dict[str, Any]:
    described = {
        tensor: {"name": tensor, "data_type": data_type, "dims": dims}
        for tensor, (data_type, dims) in contract_tensors(manifest, batched=batched).items()
    }
    styled = described.pop("styled")
    return {
        "name": name,
        "backend": backend,
        "input": list(described.values()),
        "output": [styled],
        "instance_group": [{"kind": "KIND_GPU", "count": _INSTANCES}],
        "parameters": {KEY: {"string_value": manifest.to_json()}},
    }


def _warm_up(config: Mapping[str, Any], size: Size, frames: int) -> dict[str, Any]:
    """Frames of random pixels; strength and style 0, as random bytes can be a NaN."""
    inputs = {}
    for tensor in config["input"]:
        sizes = iter(size)
        dims = [next(sizes) if d == -1 else d for d in tensor["dims"]]
        filling = "random_data" if tensor["name"] == "frame" else "zero_data"
        inputs[tensor["name"]] = {"data_type": tensor["data_type"], "dims": dims, filling: True}
    return {"name": f"{frames} of {size[1]}x{size[0]}", "batch_size": frames, "inputs": inputs}


def _graph_tensors(graph: bytes) -> Tensors:
    """Inputs and outputs of a batched ONNX file, as Triton sees them: without the leading axis, which must be N."""
    model = onnx.load_model_from_string(graph)
    tensors: Tensors = {}
    for value in (*model.graph.input, *model.graph.output):
        kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
        if not dims or not dims[0].dim_param:
            raise ExportError(f"got: {value.name} without an axis of frames; expected: (N, …)")
        tensors[value.name] = _ONNX_TYPES.get(kind, str(kind)), [-1 if d.dim_param else d.dim_value for d in dims[1:]]
    return tensors


def _text(config: Mapping[str, Any]) -> str:
    schema, (json_format, text_format) = _schema(), _formats()
    return str(text_format.MessageToString(json_format.ParseDict(config, schema.ModelConfig())))


def _parsed(text: str) -> Any:
    schema, (_, text_format) = _schema(), _formats()
    try:
        return text_format.Parse(text, schema.ModelConfig())
    except text_format.ParseError as error:
        raise ExportError(f"got: a config that Triton's schema refuses at {error}; expected: a ModelConfig") from error


def _formats() -> tuple[Any, Any]:
    """JSON and text format of protobuf, which comes with onnx; it has no types."""
    json_format, text_format = (f"google.protobuf.{name}_format" for name in ("json", "text"))
    return importlib.import_module(json_format), importlib.import_module(text_format)


def _schema() -> Any:
    try:
        return importlib.import_module("tritonclient.grpc.model_config_pb2")
    except ImportError as error:
        raise MissingExtraError("tritonclient", "triton", "Triton model repositories") from error
