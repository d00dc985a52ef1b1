"""Modules of tests as ONNX files."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def save_onnx(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    """``module`` with the height and width of its four-dimensional inputs left open."""
    sides = {2: torch.export.Dim("height", min=8, max=4096), 3: torch.export.Dim("width", min=8, max=4096)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            opset_version=18,
            dynamo=True,
            external_data=False,
            dynamic_shapes=tuple(sides if value.ndim == 4 else None for value in inputs.values()),
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
