"""A generator's encoder and chooser as graphs of their own: a picture in, what the model takes as style out.

| tensor          | dtype, shape        | meaning                                                        |
|-----------------|---------------------|----------------------------------------------------------------|
| frame (in)      | uint8 (1, H, W, 3)  | BGR, 0-255, any size                                           |
| style (out)     | float32 (K,)        | a style's code, or of a chooser without codes mixing weights   |

They run once and not for each frame, so they stay in fp32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from styleexport.errors import ExportError
from styleexport.fp16_from_onnx import sealed
from styleexport.onnx_from_checkpoint import EXAMPLE, traced
from styleexport.verify import Frame
from stylesdk.errors import ModelFileError
from stylesdk.manifest import COMPANIONS, Manifest, read_model_file
from stylesdk.onnx_file import manifest_from_onnx

TOLERANCE = 1e-3  # of a result's largest number: far less than a step of 255 in any picture
_OUTPUT = "style"
Codes = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class CodeDifference:
    """The largest difference of a result's numbers, as a share of the largest of them, over all pictures."""

    relative: float
    pictures: int

    def __str__(self) -> str:
        return f"at most {self.relative:.1e} of the largest number, over {self.pictures} pictures"


class PictureContract(nn.Module):
    """uint8 BGR picture (1, H, W, 3) -> float32 (K,), around a module of RGB float (1, 3, H, W), 0-1."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, frame: Tensor) -> Tensor:
        photo = frame.to(torch.float32).permute(0, 3, 1, 2)[:, [2, 1, 0]] * (1 / 255)
        style: Tensor = self.module(photo)
        return style.to(torch.float32)


def companions_from_generator(
    generator: nn.Module, manifest: Manifest, pictures: Sequence[Frame]
) -> dict[str, tuple[bytes, CodeDifference]]:
    """Kind -> serialised ONNX of each companion that the generator has, verified, and its difference to torch.

    Args:
        generator: in training form; its ``encoder()`` and ``chooser()`` are modules, or None.
        manifest: the model's, with its codes.
        pictures: to verify on, BGR uint8 (H, W, 3).

    Raises:
        ExportError: an encoder of a generator without codes, a result of another length or with a NaN, a graph that
            onnx refuses, or one outside ``TOLERANCE``.
    """
    found: dict[str, tuple[bytes, CodeDifference]] = {}
    for kind in COMPANIONS:
        make = getattr(generator, kind, None)
        # A network may call a part of its own an encoder: that one makes no codes.
        module = make() if make is not None and not isinstance(make, nn.Module) else None
        if module is None:
            continue
        if not manifest.style_length or (kind == "encoder" and not manifest.codes):
            raise ExportError(
                f"got: a generator with {kind}(), whose styles are no codes; expected: an attribute `code`, and codes()"
            )
        contract = PictureContract(module).eval()
        wanted = [_run_torch(contract, picture, kind, manifest.style_length) for picture in pictures]
        data = traced(contract, {"frame": EXAMPLE}, _OUTPUT).SerializeToString()
        difference = _verified(data, wanted, pictures, kind)
        # Nothing of this one export: made again, say verified on other photos, it is the same file, and the models
        # made before still accept it. Its licence is the model's, whose manifest has it.
        own = Manifest(
            name=manifest.name,
            styles=manifest.styles,
            stride=1,
            precision="fp32",
            licence="",
            training=manifest.training,
            kind=kind,
        )
        found[kind] = sealed(onnx.load_model_from_string(data), own), difference
    return found


def _run_torch(contract: PictureContract, picture: Frame, kind: str, length: int) -> Codes:
    with torch.no_grad():
        style: Codes = contract(torch.from_numpy(picture.copy())[None]).numpy()
    if style.shape != (length,) or not np.isfinite(style).all():
        what = f"{style.shape}" if style.shape != (length,) else "a NaN or an infinity"
        raise ExportError(f"got: {kind}(), which gives {what}; expected: finite numbers ({length},)")
    return style


def _verified(data: bytes, wanted: Sequence[Codes], pictures: Sequence[Frame], kind: str) -> CodeDifference:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = [session.run([_OUTPUT], {"frame": picture[None]})[0] for picture in pictures]
    relative = max(
        float(np.abs(f - w).max() / max(np.abs(w).max(), np.finfo(np.float32).tiny))
        for f, w in zip(found, wanted, strict=True)
    )
    if not relative <= TOLERANCE:
        raise ExportError(
            f"got: the {kind} as ONNX differs from torch by {relative:.1e} of the largest number; "
            f"expected: at most {TOLERANCE:g}. Nothing was written."
        )
    return CodeDifference(relative, len(pictures))


def companions_beside(model: Path) -> dict[Path, bytes]:
    """The companions that lie beside a model file of ours and belong to it, by file: those of its own export."""
    manifest = manifest_from_onnx(read_model_file(model), str(model))
    found: dict[Path, bytes] = {}
    for kind, sha256 in manifest.companions.items():
        path = model.with_name(f"{manifest.name}.{kind}.onnx")
        if path.is_file() and _sha256(data := read_model_file(path), path) == sha256:
            found[path] = data
    return found


def _sha256(data: bytes, path: Path) -> str:
    """Of a model file; "" of any other."""
    try:
        return manifest_from_onnx(data, str(path)).sha256
    except ModelFileError:
        return ""
