"""Settings of a training run: one frozen dataclass, checked at once, stored beside the run."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from styletrainer.errors import TrainError
from styletrainer.generators import GENERATORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layers = dict[str, float]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run. Weights multiply losses in units of their targets."""

    artworks: tuple[str, ...]  # pictures of one style
    photos: str  # folder of photographs, searched in depth
    run: str  # folder of the run
    recipe: str = "hybrid"
    generator: str = "realtime"
    generator_options: dict[str, Any] = field(default_factory=dict)
    steps: int = 6000  # optimiser steps; with `minutes` an upper bound
    minutes: float | None = None  # stop after this much training time
    batch: int = 4  # crops a step and process
    crop: int = 192  # pixels, square training crops
    artwork_size: int = 384  # pixels, short side of the artwork: sets the size of the strokes
    learning_rate: float = 1e-3  # Adam, cosine to zero
    critic_learning_rate: float = 1e-4
    content_weight: float = 1.0
    style_weight: float = 0.7
    adversarial_weight: float = 0.1
    tv_weight: float = 0.3
    grid_weight: float = 1.0
    equivariance_weight: float = 10.0  # on the squared change of style when the photo moves
    teacher_weight: float = 2.0  # on the distance to the teacher's picture, when there is one
    content_layers: Layers = field(default_factory=lambda: {"relu2_2": 0.3, "relu3_3": 1.0})
    style_layers: Layers = field(default_factory=lambda: {"relu1_2": 0.5, "relu2_2": 1.0, "relu3_1": 1.0})
    style_octaves: int = 3  # Gram matrices of the picture, of its half, of its quarter
    adversarial: str = "hinge"  # bce, lsgan, hinge
    critic_channels: int = 64
    critic_strided: int = 3  # 3: 70x70 patches, 2: 34x34
    ema: float = 0.999  # decay a step
    seed: int = 0
    precision: str = "bf16-mixed"  # or 32-true
    accelerator: str = "auto"  # cpu, cuda, mps
    workers: int = 1  # processes that read photos
    tick: int = 100  # steps between checkpoint, sample sheet and log line
    vgg: tuple[str, ...] = ()  # perceptual weights; () asks the environment, then PyTorch's URL
    teacher: str | None = None  # finished run whose pictures are followed

    def problems(self) -> list[str]:
        """Everything that is wrong with these settings, one line each."""
        choices = {
            "recipe": (self.recipe, ("hybrid",)),
            "generator": (self.generator, tuple(GENERATORS)),
            "adversarial": (self.adversarial, ("bce", "lsgan", "hinge")),
            "precision": (self.precision, ("bf16-mixed", "16-mixed", "32-true")),
            "accelerator": (self.accelerator, ("auto", "cpu", "cuda", "mps")),
        }
        found = [
            f"{name}: got {got!r}, expected one of {', '.join(wanted)}"
            for name, (got, wanted) in choices.items()
            if got not in wanted
        ]
        at_least = {"steps": 1, "batch": 1, "crop": 64, "artwork_size": 64, "tick": 1, "style_octaves": 1}
        found += [
            f"{name}: got {getattr(self, name)}, expected at least {least}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        if self.crop % 16:
            found.append(f"crop: got {self.crop}, expected a multiple of 16")
        if self.minutes is not None and self.minutes <= 0:
            found.append(f"minutes: got {self.minutes}, expected more than 0")
        if not 0 <= self.ema < 1:
            found.append(f"ema: got {self.ema}, expected 0 up to 1")
        if not self.artworks:
            found.append("artworks: got none, expected at least one picture")
        return found

    def save(self, path: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=2)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)


# What a resumed run may change: how long it runs and what it shows, not what it computes.
FREE_TO_CHANGE = {"run", "steps", "minutes", "workers", "tick", "accelerator", "photos", "artworks", "vgg", "teacher"}


def config_from_dict(values: dict[str, Any], source: str) -> TrainConfig:
    """Build a checked config; every unknown key and every bad value is named in one TrainError."""
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    problems = [f"{key}: unknown setting" for key in sorted(set(values) - known)]
    kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    try:
        config = TrainConfig(**kept)
        problems += config.problems()
    except TypeError as error:
        problems.append(str(error))
    if problems:
        listed = "\n  ".join(problems)
        raise TrainError(f"{source} has {len(problems)} problem(s):\n  {listed}")
    return config


def config_from_run(run: Path) -> TrainConfig:
    """The resolved config of a run folder."""
    path = run / "config.json"
    if not path.is_file():
        raise TrainError(f"got: {run}, which has no config.json; expected: a folder made by `stylesdk train -o`.")
    return config_from_dict(json.loads(path.read_text(encoding="utf-8")), str(path))


def settings_from_toml(path: Path) -> dict[str, Any]:
    """Settings of a TOML file, keys as in ``TrainConfig``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TrainError(f"got: {path}, which does not read as TOML: {error}") from error
