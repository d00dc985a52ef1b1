"""What is measured: one style of a model. Models are bundled names, ONNX files, or run folders of a training."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from styleexport.onnx_from_checkpoint import generator_from_run, onnx_from_generator
from styleexport.origin import training_record
from stylesdk import Manifest, Stylizer
from stylesdk.frames import Frame
from stylesdk.manifest import read_model_file
from stylesdk.mix import split_style
from stylesdk.onnx_file import manifest_from_onnx
from stylesdk.styles import resolve
from styletrainer.run.report import STATS


@dataclass(frozen=True)
class Subject:
    """One style of one model file."""

    label: str  # the file's name, and the style where the file has several
    path: Path
    style: str
    manifest: Manifest
    reference: bool = False  # measured beside the others, nothing is asked of it
    picture: Path | None = None  # whose style it is, where the file takes any

    @property
    def size(self) -> str:
        """nano, small or base; empty for other networks."""
        training = self.manifest.training
        usual = "small" if training.get("generator", "realtime") == "realtime" else ""
        return str(training.get("generator_options", {}).get("size", usual))

    @property
    def images(self) -> int | None:
        """Photos that training has shown in this style, each time counted, in all runs that led to this one.

        None where the file does not say.
        """
        seen, training = 0.0, self.manifest.training
        while training:
            step, batch = training.get("result", {}).get("step"), training.get("batch", 1)
            if not step:
                return None
            turns = 1 if training.get("new_style_only") else max(len(training.get("styles", ())), 1)
            seen += step * batch / turns
            training = training.get("before", {})
        return round(seen) or None

    def card(self) -> dict[str, Any]:
        """What a report says of it beside its figures."""
        several = len(self.manifest.styles) > 1
        known = {"style": self.style, "size": self.size, "images": self.images}
        return known | {"reference": self.reference, "of_several": several}

    def open(self) -> Stylizer:
        """The model, set to this style."""
        several = len(self.manifest.styles) > 1
        chosen = self.picture or (self.style if several else None)
        model = f"{self.path}:{chosen}" if chosen else self.path
        return Stylizer(model, device="cpu", runtime="onnxruntime")

    def run(self, frames: list[Frame]) -> list[Frame]:
        """Style BGR frames."""
        with self.open() as stylizer:
            return [stylizer.run(frame) for frame in frames]


def subjects_of(model: str, folder: Path) -> list[Subject]:
    """Every style of ``model``, or that of ``MODEL:STYLE`` or ``MODEL:PICTURE``; a run is exported into ``folder``."""
    if (Path(model) / STATS).is_file():
        path, chosen = _exported(Path(model), folder), None
    else:
        name, chosen = split_style(model)
        path = resolve(name)
    manifest = manifest_from_onnx(read_model_file(path), str(path))
    if isinstance(chosen, Path):
        return [Subject(f"{path.stem}:{chosen.stem}", path, chosen.stem, manifest, picture=chosen)]
    styles = tuple(chosen) if isinstance(chosen, Mapping) else manifest.styles
    if isinstance(chosen, Mapping) and len(chosen) > 1:
        raise typer.BadParameter(
            f"got: {model}, a blend; expected: one style of a model: there is no artwork of a blend"
        )
    several = len(manifest.styles) > 1
    return [Subject(f"{path.stem}:{style}" if several else path.stem, path, style, manifest) for style in styles]


def all_subjects(models: Sequence[str], references: Sequence[str], folder: Path) -> list[Subject]:
    """Every style of ``models``, then the ``references``, ``STYLE=MODEL`` each. Figures are kept by label."""
    found = [subject for model in models for subject in subjects_of(model, folder)]
    found += [reference_of(text, folder) for text in references]
    if twice := [label for label, count in Counter(subject.label for subject in found).items() if count > 1]:
        raise typer.BadParameter(
            f"got: two models called {', '.join(twice)}; expected: each once. Rename a file or run"
        )
    return found


def reference_of(text: str, folder: Path) -> Subject:
    """The reference network of one style, ``STYLE=MODEL``, under a label that no other model has."""
    style, _, model = text.rpartition("=")
    subject = subjects_of(model, folder)[0]
    return replace(subject, label=f"{subject.label} (reference)", style=style or subject.style, reference=True)


def _exported(run: Path, folder: Path) -> Path:
    generator, config = generator_from_run(run)
    styles, stride = config.styles or (Path(config.artworks[0]).stem,), int(generator.stride)  # type: ignore[arg-type]
    name = run.resolve().name
    path = Path(tempfile.mkdtemp(dir=folder)) / f"{name}.onnx"  # of two runs of one name each has its own
    training = training_record(run, config)
    manifest = Manifest(name, styles, stride, "fp32", "Apache-2.0", training=training)
    path.write_bytes(onnx_from_generator(generator, manifest))
    return path
