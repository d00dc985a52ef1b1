"""What is measured: one style of a model. Models are bundled names, ONNX files, or run folders of a training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from styleexport.onnx_from_checkpoint import generator_from_run, onnx_from_generator
from stylesdk import Manifest, Stylizer
from stylesdk.frames import Frame
from stylesdk.manifest import read_model_file
from stylesdk.mix import split_style
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from styletrainer.report import STATS

SIZES = ("nano", "base")  # in a file's name; none means small


@dataclass(frozen=True)
class Subject:
    """One style of one model file."""

    label: str  # the file's name, and the style where the file has several
    path: Path
    style: str
    manifest: Manifest
    reference: bool = False  # measured beside the others, nothing is asked of it

    @property
    def size(self) -> str:
        """nano, small or base."""
        return next((size for size in SIZES if size in self.path.stem.split(".")), "small")

    @property
    def images(self) -> int | None:
        """Photos that the training has seen, each time counted; None where the file does not say."""
        training = self.manifest.training
        step = training.get("result", {}).get("step")
        return step * training.get("batch", 1) if step else None

    def card(self) -> dict[str, Any]:
        """What a report says of it beside its figures."""
        several = len(self.manifest.styles) > 1
        known = {"style": self.style, "size": self.size, "images": self.images}
        return known | {"reference": self.reference, "of_several": several}

    def open(self) -> Stylizer:
        """The model, set to this style."""
        model = f"{self.path}:{self.style}" if len(self.manifest.styles) > 1 else self.path
        return Stylizer(model, device="cpu", runtime="onnxruntime")

    def run(self, frames: list[Frame]) -> list[Frame]:
        """Style BGR frames."""
        with self.open() as stylizer:
            return [stylizer.run(frame) for frame in frames]


def subjects_of(model: str, folder: Path) -> list[Subject]:
    """Every style of ``model``, or the one of ``MODEL:STYLE``; a run folder is exported into ``folder``."""
    if (Path(model) / STATS).is_file():
        path, chosen = _exported(Path(model), folder), None
    else:
        name, chosen = split_style(model)
        path = resolve(name)
    manifest = manifest_from_onnx(read_model_file(path), str(path))
    styles = tuple(chosen) if chosen else manifest.styles
    several = len(manifest.styles) > 1
    return [Subject(f"{path.stem}:{style}" if several else path.stem, path, style, manifest) for style in styles]


def reference_of(text: str, folder: Path) -> Subject:
    """The reference network of one style, ``STYLE=MODEL``, under a label that no other model has."""
    style, _, model = text.rpartition("=")
    subject = subjects_of(model, folder)[0]
    return replace(subject, label=f"{subject.label} (reference)", style=style or subject.style, reference=True)


def _exported(run: Path, folder: Path) -> Path:
    generator, config = generator_from_run(run)
    styles, stride = config.styles or (Path(config.artworks[0]).stem,), int(generator.stride)  # type: ignore[arg-type]
    last = (run / STATS).read_text(encoding="utf-8").splitlines()[-1]
    training: dict[str, Any] = {"generator": config.generator, "batch": config.batch, "result": json.loads(last)}
    path = folder / f"{run.name}.onnx"
    manifest = Manifest(run.name, styles, stride, "fp32", "Apache-2.0", training=training)
    path.write_bytes(onnx_from_generator(generator, manifest))
    return path
