"""Settings of a training run: one frozen dataclass, checked at once, stored beside the run."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from styletrainer.balance import LOOKS
from styletrainer.checkpoint import write_atomically
from styletrainer.discriminators import least_size
from styletrainer.errors import TrainError
from styletrainer.generators import GENERATORS, build_generator, holds_several_styles
from styletrainer.photos import FREE_SETS, PHOTO_SOURCES
from styletrainer.recipes import RECIPES, recipe_class

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layers = dict[str, float]
# Generators whose style is a code that their own recipe makes.
_OF_ONE_RECIPE = ("crossdomain", "gramcode", "paired")
# What a recipe may need to be given (its NEEDS) -> what is expected
_NEEDED = {
    "artworks": "at least one picture",
    "photos": f"{PHOTO_SOURCES} (--photos)\n{FREE_SETS}",
    "pairs": "a CSV of pairs (--pairs)",
}
# annotation of a field -> what its value may be
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "float | None": (int, float, type(None)),
    "str | None": (str, type(None)),
    "tuple[str, ...]": (tuple,),
    "Layers": (dict,),
    "dict[str, Any]": (dict,),
}


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
    stop_when_good: bool = False  # end on a plateau of the loss, after the rate has fallen (stopping.py)
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
    look: str | None = None  # subtle, balanced, bold: weights that set themselves (balance.py)
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

    def problems(self, stored: bool = False) -> list[str]:
        """Everything that is wrong with these settings, one line each; ``stored``: those of a run that was made."""
        if wrong := self._wrong_types():
            return wrong
        choices = {
            "recipe": (self.recipe, tuple(RECIPES)),
            "generator": (self.generator, tuple(GENERATORS)),
            "adversarial": (self.adversarial, ("bce", "lsgan", "hinge")),
            "precision": (self.precision, ("auto", "bf16-mixed", "32-true")),
            "accelerator": (self.accelerator, ("auto", "cpu", "cuda", "mps")),
            "look": (self.look or "balanced", tuple(LOOKS)),
        }
        found = [
            f"{name}: got {got!r}, expected one of {', '.join(wanted)}"
            for name, (got, wanted) in choices.items()
            if got not in wanted
        ]
        found += self._out_of_range() + self._wrong_data() + self._wrong_styles()
        found += [] if stored else self._half_named_pictures() + self._unread()
        if not (self.content_weight or self.style_weight or self.adversarial_weight or self.pictures):
            found.append("pictures: got none, expected a folder a style, since no other loss has a weight (--pictures)")
        if self.generator in _OF_ONE_RECIPE and self.recipe != self.generator:
            found.append(f"generator: got {self.generator}, which only the recipe of that name trains")
        if self.recipe in RECIPES:
            try:
                self.options()
            except (TypeError, ValueError) as error:
                found.append(f"recipe_options: {self.recipe} does not take {self.recipe_options} ({error})")
        if self.generator in GENERATORS:
            try:
                with torch.device("meta"):  # without memory: only to see that the options fit
                    build_generator(self.generator, self.all_generator_options())
            except (TypeError, KeyError, ValueError, RuntimeError) as error:
                found.append(f"generator_options: {self.generator} does not take {self.generator_options} ({error!r})")
        return found

    def needs(self) -> tuple[str, ...]:
        """What the recipe must be given: its ``NEEDS``, of artworks, photos and pairs."""
        usual = ("artworks", "photos")
        return getattr(recipe_class(self.recipe), "NEEDS", usual) if self.recipe in RECIPES else usual

    def options(self) -> Any:
        """The recipe's own settings, an instance of its ``Options``."""
        return recipe_class(self.recipe).Options(**self.recipe_options)

    def _wrong_types(self) -> list[str]:
        """Fields whose value is not of the kind of their default."""
        found = []
        for entry in dataclasses.fields(self):
            value: Any = getattr(self, entry.name)
            kinds = _KINDS[str(entry.type)]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                found.append(f"{entry.name}: got {value!r}, expected {entry.type}")
            elif entry.type == "Layers" and not _all_numbers(value):
                found.append(f"{entry.name}: got {value!r}, expected layer names with numbers")
        return found

    def _out_of_range(self) -> list[str]:
        at_least = {"crop": 64, "artwork_size": 64, "seed": 0, "workers": 0, "critic_strided": 0}
        at_least |= dict.fromkeys(("steps", "batch", "tick", "style_octaves", "patience", "critic_channels"), 1)
        found = [
            f"{name}: got {getattr(self, name)}, expected at least {least}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        numbers = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.type == "float"}
        found += [
            f"{name}: got {value}, expected a number from 0 on"
            for name, value in numbers.items()
            if name != "ema" and not 0 <= value < math.inf
        ]
        if self.crop % 16:
            found.append(f"crop: got {self.crop}, expected a multiple of 16")
        if self.crop < least_size(self.critic_strided):
            found.append(f"critic_strided: got {self.critic_strided}, too many for crops of {self.crop} pixels")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            found.append(f"minutes: got {self.minutes}, expected more than 0")
        if not 0 <= self.ema < 1:
            found.append(f"ema: got {self.ema}, expected 0 up to 1")
        return found

    def _unread(self) -> list[str]:
        """Settings that were given and that the recipe does not read, its ``UNREAD``: a misunderstanding, told here."""
        if self.recipe not in RECIPES:
            return []
        recipe = recipe_class(self.recipe)
        usual = TrainConfig(**recipe.DEFAULTS)
        return [
            f"{name}: got {value!r}, expected none: {self.recipe} does not read it"
            for name in getattr(recipe, "UNREAD", ())
            if (value := getattr(self, name)) and value != getattr(usual, name)
        ]

    def _wrong_data(self) -> list[str]:
        """What the recipe needs and was not given, and what was given and it would not read."""
        needs = self.needs()
        found = [f"{name}: got none, expected {_NEEDED[name]}" for name in needs if not getattr(self, name)]
        unread = {name: getattr(self, name) for name in _NEEDED if name not in needs and getattr(self, name)}
        found += [f"{name}: got {got!r}, expected none: {self.recipe} does not read it" for name, got in unread.items()]
        return found if self.run else [*found, "run: got none, expected a folder for the run (-o)"]

    def _wrong_styles(self) -> list[str]:
        found = []
        expected = max(len(self.learning()), 1)
        one_each = "artworks" in self.needs() and not self.new_style_only
        if self.styles and one_each and len(self.artworks) != expected:
            found.append(f"artworks: got {len(self.artworks)}, expected one for each of {len(self.styles)} styles")
        if self.pictures and len(self.pictures) != expected:
            found.append(f"pictures: got {len(self.pictures)} folders, expected {expected}, one a style that learns")
        if len(self.styles) == 1 or len(set(self.styles)) != len(self.styles):
            found.append(f"styles: got {', '.join(self.styles)}, expected two or more different names")
        if self.styles and self.generator in GENERATORS and not holds_several_styles(self.generator):
            able = ", ".join(filter(holds_several_styles, GENERATORS))
            found.append(f"generator: got {self.generator}, expected one that holds several styles: {able}")
        if self.new_style_only and not (self.styles and self.start):
            found.append(
                "new_style_only: expected `styles`, the new one last, and `start`, the run that has the others"
            )
        return found

    def learning(self) -> tuple[str, ...]:
        """The styles that learn; () where the network has one, which needs no name."""
        return self.styles[-1:] if self.new_style_only else self.styles

    def _half_named_pictures(self) -> list[str]:
        """Folders of pictures of which only some are named like a style: neither names nor order can be meant."""
        names = {Path(folder).name for folder in self.pictures}
        if len(self.pictures) != len(self.learning()) or names == set(self.learning()) or not names & set(self.styles):
            return []
        expected = ", ".join(self.learning())
        return [
            f"pictures: got folders named {', '.join(sorted(names))}, expected {expected}, the styles that learn "
            "(rename the folders; where none has the name of a style, their order counts)"
        ]

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


def _all_numbers(layers: Any) -> bool:
    return all(isinstance(weight, (int, float)) for weight in layers.values())


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
        problems += config.problems(stored)
    except TypeError as error:
        problems.append(str(error))
    if problems:
        listed = "\n  ".join(problems)
        raise TrainError(f"{source} has {len(problems)} problem(s):\n  {listed}")
    return config if stored else config.with_pictures_by_name()


def with_recipe_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Over the recipe's ``DEFAULTS``; what only its ``Options`` know goes into ``recipe_options``."""
    recipe = values.get("recipe", "hybrid")
    if recipe not in RECIPES:
        return values
    found = recipe_class(recipe)
    own = {entry.name for entry in dataclasses.fields(found.Options)}
    options = values.get("recipe_options", {}) | {k: v for k, v in values.items() if k in own}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    rest = {k: v for k, v in values.items() if k not in own}
    artworks = rest.get("artworks", ())
    if getattr(found, "EVERY_ARTWORK_A_STYLE", False) and len(artworks) > 1 and not rest.get("styles"):
        rest["styles"] = [Path(artwork).stem for artwork in artworks]
    return found.DEFAULTS | rest | ({"recipe_options": options} if options else {})


def config_from_run(run: Path) -> TrainConfig:
    """The resolved config of a run folder."""
    path = run / "config.json"
    if not path.is_file():
        raise TrainError(f"got: {run}, which has no config.json; expected: a folder made by `stylesdk train -o`.")
    return config_from_dict(json.loads(path.read_text(encoding="utf-8")), str(path), stored=True)


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
        raise TrainError(f"got: {path}, which does not read as TOML: {error}") from error
