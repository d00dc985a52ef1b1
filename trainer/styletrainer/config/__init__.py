"""Settings of a training run: one frozen dataclass, checked at once, stored beside the run."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from styletrainer.config.problems import problems_of
from styletrainer.errors import TrainError
from styletrainer.recipes import RECIPES, recipe_class
from styletrainer.run.checkpoint import write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layers = dict[str, float]
StyleWeights = dict[str, float]  # by names of `styles`


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run. Weights multiply losses in units of their targets."""

    artworks: tuple[str, ...] = ()  # pictures of one style; with `styles` one picture a style
    photos: str = ""  # photographs: a folder, searched in depth, a .zip, or a WebDataset's .tar
    run: str = ""  # folder of the run
    pairs: str = ""  # CSV of pairs of pictures with labels, for recipes that learn from pairs
    styles: tuple[str, ...] = ()  # names, when one network learns several styles
    new_style_only: bool = False  # only the parameters of the last of `styles` learn, the others are `start`'s
    recipe: str = "hybrid"
    recipe_options: dict[str, Any] = field(default_factory=dict)  # settings of the recipe alone, its `Options`
    generator: str = "realtime"
    generator_options: dict[str, Any] = field(default_factory=dict)
    steps: int = 6000  # optimiser steps; with `minutes` an upper bound
    minutes: float | None = None  # stop after this much training time
    stop_when_good: bool = False  # end on a plateau of the loss, after the rate has fallen (run/stopping.py)
    patience: int = 300  # steps that must gain something, with stop_when_good
    batch: int = 4  # crops a step and process
    crop: int = 192  # pixels, square training crops
    artwork_size: int = 384  # pixels, short side of the artwork: sets the size of the strokes
    learning_rate: float = 3e-3  # cosine to zero
    critic_learning_rate: float = 1e-4
    content_weight: float = 1.0
    style_weight: float = 0.7
    adversarial_weight: float = 0.1
    tv_weight: float = 0.3
    grid_weight: float = 1.0
    equivariance_weight: float = 10.0  # on the squared change of style when the photo moves
    look: str | None = None  # subtle, balanced, bold: weights that set themselves (run/balance.py)
    teacher_weight: float = 1.0  # on the distance to the teacher's picture, with `pictures`
    content_layers: Layers = field(default_factory=lambda: {"relu2_2": 0.3, "relu3_3": 1.0})
    style_layers: Layers = field(default_factory=lambda: {"relu1_2": 0.5, "relu2_2": 1.0, "relu3_1": 1.0})
    style_octaves: int = 3  # Gram matrices of the picture, of its half, of its quarter
    adversarial: str = "hinge"  # bce, lsgan, hinge
    critic_channels: int = 64
    critic_strided: int = 3  # 3: 70x70 patches, 2: 34x34
    ema: float = 0.999  # decay a step
    seed: int = 0
    precision: str = "auto"  # bf16-mixed where the device computes in bf16, else 32-true
    accelerator: str = "auto"  # cpu, cuda, mps
    compile: bool = False  # torch.compile: a minute to begin with, then faster steps; needs a C++ compiler
    workers: int = 1  # processes that read photos
    tick: int = 100  # steps between checkpoint, sample sheet and log line
    vgg: tuple[str, ...] = ()  # perceptual weights; () asks the environment, then PyTorch's URL
    vgg16: tuple[str, ...] = ()  # the same of VGG-16, for recipes that use it
    pictures: tuple[str, ...] = ()  # folders with a teacher's picture of every photo, one a style that learns
    start: str | None = None  # finished run of the same generator whose weights to begin with
    start_share: float = 0.0  # of those weights in the run's own at its end, a mean that may be better than both

    def needs(self) -> tuple[str, ...]:
        """What the recipe must be given: its ``NEEDS``, of artworks, photos and pairs."""
        usual = ("artworks", "photos")
        return getattr(recipe_class(self.recipe), "NEEDS", usual) if self.recipe in RECIPES else usual

    def options(self) -> Any:
        """The recipe's own settings, an instance of its ``Options``."""
        return recipe_class(self.recipe).Options(**self.recipe_options)

    def learning(self) -> tuple[str, ...]:
        """The styles that learn; () where the network has one, which needs no name."""
        return self.styles[-1:] if self.new_style_only else self.styles

    def with_pictures_by_name(self) -> TrainConfig:
        """Folders of pictures that are named like the styles, in the styles' order; others stay as they are."""
        by_name = {Path(folder).name: folder for folder in self.pictures}
        if by_name.keys() != set(self.learning()):
            return self
        return dataclasses.replace(self, pictures=tuple(by_name[name] for name in self.learning()))

    def all_generator_options(self) -> dict[str, Any]:
        """``generator_options`` and, where there are several, the number of styles."""
        return self.generator_options | ({"styles": len(self.styles)} if self.styles else {})

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


# What a resumed run may change: how long it runs and what it shows; and where the same files lie.
FREE_TO_CHANGE = {"run", "steps", "minutes", "workers", "tick", "accelerator", "compile", "photos", "vgg", "vgg16"}
SAME_NAME = {"artworks", "pairs", "pictures", "start"}


def changed_settings(before: TrainConfig, now: TrainConfig) -> list[str]:
    """What makes ``now`` another run than ``before``, one line each."""

    def shown(config: TrainConfig, name: str) -> Any:
        value = getattr(config, name)
        if name not in SAME_NAME or value is None:
            return value
        return Path(value).name if isinstance(value, str) else [Path(path).name for path in value]

    names = [entry.name for entry in dataclasses.fields(before) if entry.name not in FREE_TO_CHANGE]
    pairs = [(name, shown(before, name), shown(now, name)) for name in names]
    return [f"{name}: {old!r} in the run, {new!r} now" for name, old, new in pairs if old != new]


def config_from_dict(values: dict[str, Any], source: str, stored: bool = False) -> TrainConfig:
    """Build a checked config; every unknown key and every bad value is named in one TrainError.

    ``stored``: the values are those of a run that was made. Then ``pictures`` stay as the run used them.
    """
    values = with_recipe_settings(values)
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    problems = [f"{key}: unknown setting" for key in sorted(set(values) - known)]
    kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    try:
        config = TrainConfig(**kept)
        problems += problems_of(config, stored)
    except TypeError as error:
        problems.append(str(error))
    if problems:
        listed = "\n  ".join(problems)
        raise TrainError(
            f"{source} has {len(problems)} problem(s):\n  {listed}\n"
            "Do this: mend them; `stylesdk train ... --dry-run` without them lists every setting."
        )
    return config if stored else config.with_pictures_by_name()


def with_recipe_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Over the recipe's ``DEFAULTS``; what only its ``Options`` know goes into ``recipe_options``."""
    recipe, given = values.get("recipe", "hybrid"), values.get("recipe_options", {})
    artworks = values.get("artworks", ())
    texts = isinstance(artworks, (list, tuple)) and all(isinstance(artwork, str) for artwork in artworks)
    if not isinstance(recipe, str) or recipe not in RECIPES or not isinstance(given, dict) or not texts:
        return values  # and what is wrong with them is told with all the rest
    found = recipe_class(recipe)
    own = {entry.name for entry in dataclasses.fields(found.Options)}
    options = given | {k: v for k, v in values.items() if k in own}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    rest = {k: v for k, v in values.items() if k not in own}
    if getattr(found, "EVERY_ARTWORK_A_STYLE", False) and len(artworks) > 1 and not rest.get("styles"):
        rest["styles"] = [Path(artwork).stem for artwork in artworks]
    return found.DEFAULTS | rest | ({"recipe_options": options} if options else {})


def config_from_run(run: Path) -> TrainConfig:
    """The resolved config of a run folder."""
    path = run / "config.json"
    if not path.is_file():
        raise TrainError(f"got: {run}, which has no config.json; expected: a folder made by `stylesdk train -o`.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no table of settings")
    except ValueError as error:  # not UTF-8, not JSON
        raise TrainError(
            f"got: {path}, which does not read as settings ({error}); expected: what `stylesdk train` wrote.\n"
            "Do this: bring the folder back from a copy, or train again into another one."
        ) from error
    return config_from_dict(values, str(path), stored=True)


def settings_from_toml(path: Path) -> dict[str, Any]:
    """Settings of a TOML file, keys as in ``TrainConfig``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TrainError(
            f"got: {path}, where line {line} is not UTF-8; expected: TOML in UTF-8.\nDo this: save the file as UTF-8."
        ) from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TrainError(
            f"got: {path}, which does not read as TOML: {error}; expected: settings, NAME = VALUE, a line each.\n"
            "Do this: check the path and that line; `stylesdk train --dry-run` lists all settings."
        ) from error
