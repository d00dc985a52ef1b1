"""From a shipped model back to the folder of a run, so that training can go on from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from styleexport.errors import ExportError
from styleexport.export import make_folder
from styleexport.onnx_graph import Graph
from styleexport.origin import write_origin
from stylesdk.manifest import Manifest, read_model_file
from stylesdk.onnx_file import manifest_from_onnx
from styletrainer.config import TrainConfig, config_from_dict
from styletrainer.data.crops import Crops
from styletrainer.data.photos import Photo, list_photos
from styletrainer.errors import TrainError
from styletrainer.generators.realtime import Realtime
from styletrainer.generators.unfolding import Kernels, layers_of, unfold
from styletrainer.run.checkpoint import WEIGHTS, write_atomically
from styletrainer.run.report import STATS

_PHOTOS, _BATCH = 24, 4


def run_from_onnx(model: Path, out: Path, photos: Path) -> TrainConfig:
    """Write the folder of a run whose generator computes what ``model`` computes; `--start` takes it.

    Returns the settings that the model was trained with.

    Args:
        model: fp32 ONNX file of the realtime family.
        out: folder, made when missing; a run that is there is not overwritten.
        photos: photographs that the statistics of batch normalisation are measured on.

    Raises:
        ModelFileError: not an intact model of ours. ExportError: of another family, precision or version, or ``out``
            holds a run or cannot be written. TrainError: a folder without pictures, or without any that reads.
    """
    data, manifest = _model(model)
    if (out / "config.json").exists():
        raise ExportError(f"got: {out}, which holds a run; expected: a new folder.\nDo this: choose another -o.")
    training = dict(manifest.training)
    before, result = training.pop("before", {}), training.pop("result", {})
    try:
        config = config_from_dict(training | {"run": str(out), "photos": str(photos)}, str(model), stored=True)
    except TrainError as error:
        raise ExportError(
            f"got: {model}, trained with settings that this version does not know ({error}); expected: its own.\n"
            "Do this: use the version of stylesdk that trained it, or a newer one."
        ) from error
    paths = list_photos(photos)
    make_folder(out)
    generator = Realtime(**config.all_generator_options())
    unfold(generator, kernels_of(onnx.load_model_from_string(data), manifest, generator), _crops(paths, config.crop))
    weights = {name: value.contiguous() for name, value in generator.state_dict().items()}
    write_atomically(out / WEIGHTS, lambda path: save_file(weights, path))
    write_atomically(out / STATS, lambda path: path.write_text(json.dumps(result) + "\n", encoding="utf-8"))
    write_origin(out, manifest.name, manifest.licence, before)
    config.save(out / "config.json")  # the last: a folder without it is no run
    return config


def _model(path: Path) -> tuple[bytes, Manifest]:
    if path.suffix.lower() != ".onnx":
        raise ExportError(
            f"got: {path}; expected: a bundled style or an ONNX file.\n"
            "Do this: give the file that a plan was built from."
        )
    data = read_model_file(path)
    manifest = manifest_from_onnx(data, str(path))
    if manifest.precision != "fp32" or manifest.training.get("generator") != "realtime":
        raise ExportError(
            f"got: {path}, {manifest.precision}, generator {manifest.training.get('generator')}; expected: the fp32 "
            "file of a realtime generator.\nDo this: name that file; others cannot be trained further from their ONNX."
        )
    return data, manifest


def kernels_of(model: onnx.ModelProto, manifest: Manifest, generator: Realtime) -> Kernels:
    """Kernel (O, I, K, K) and table (S, 2, O) of every convolution, by the generator's names."""
    graph, styles = Graph(model), len(manifest.styles)
    convs = [node for node in graph.nodes if node.op_type == "Conv"]
    if styles > 1:  # the weights of styles times a layer's table
        parts = [graph.constants.get(name) for node in graph.nodes if node.op_type == "Mul" for name in node.input]
        tables = [part for part in parts if part is not None and part.ndim == 2 and part.shape[0] == styles]
    else:
        tables = [np.stack(np.broadcast_arrays(1.0, bias)) for bias in (_bias(graph, conv) for conv in convs)]
    layers = layers_of(generator)
    if not len(layers) == len(convs) == len(tables):
        raise ExportError(
            f"got: {manifest.name}, {len(convs)} convolutions with {len(tables)} scales and shifts; expected: "
            f"{len(layers)} of each, as a {generator.size} network has."
        )
    kernels = (graph.constants[conv.input[1]] for conv in convs)
    return {
        name: (_tensor(kernel), _tensor(table).reshape(styles, 2, -1))
        for name, kernel, table in zip(layers, kernels, tables, strict=True)
    }


def _bias(graph: Graph, conv: onnx.NodeProto) -> NDArray[Any]:
    """A convolution's bias; one of zeros is not stored."""
    if len(conv.input) > 2:
        return graph.constants[conv.input[2]]
    return np.zeros(graph.constants[conv.input[1]].shape[0], np.float32)


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))


def _crops(photos: Sequence[Photo], side: int) -> Iterator[Tensor]:
    """Batches (N, 3, H, W) as training shows them."""
    blank = np.zeros((2 * side, 2 * side, 3), np.uint8)
    crops = Crops(photos, [[blank]], side, _BATCH, seed=0)
    for first in range(0, _PHOTOS, _BATCH):
        yield torch.stack([crops[index][0] for index in range(first, first + _BATCH)])
