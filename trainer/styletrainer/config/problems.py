"""What is wrong with the settings of a run, all of it at once."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from styletrainer.data.photos import FREE_SETS, PHOTO_SOURCES
from styletrainer.discriminators import least_size
from styletrainer.generators import GENERATORS, build_generator, holds_several_styles
from styletrainer.recipes import RECIPES, recipe_class
from styletrainer.run.balance import LOOKS
from styletrainer.style_names import UNSAYABLE, is_style_name

if TYPE_CHECKING:  # the package imports this module
    from styletrainer.config import TrainConfig

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
    "StyleWeights": (dict,),
    "dict[str, Any]": (dict,),
}


def problems_of(config: TrainConfig, stored: bool = False) -> list[str]:
    """Everything that is wrong with these settings, one line each; ``stored``: those of a run that was made."""
    if wrong := _wrong_types(type(config), vars(config)):
        return wrong
    choices = {
        "recipe": (config.recipe, tuple(RECIPES)),
        "generator": (config.generator, tuple(GENERATORS)),
        "adversarial": (config.adversarial, ("bce", "lsgan", "hinge")),
        "precision": (config.precision, ("auto", "bf16-mixed", "32-true")),
        "accelerator": (config.accelerator, ("auto", "cpu", "cuda", "mps")),
        "look": (config.look or "balanced", tuple(LOOKS)),
    }
    found = [
        f"{name}: got {got!r}, expected one of {', '.join(wanted)}"
        for name, (got, wanted) in choices.items()
        if got not in wanted
    ]
    found += _out_of_range(config) + _wrong_layers(config) + _wrong_data(config) + _wrong_styles(config)
    found += [] if stored else _half_named_pictures(config) + _unread(config)
    if not (config.content_weight or config.style_weight or config.adversarial_weight or config.pictures):
        found.append("pictures: got none, expected a folder a style, since no other loss has a weight (--pictures)")
    if config.generator in _OF_ONE_RECIPE and config.recipe != config.generator:
        found.append(f"generator: got {config.generator}, which only the recipe of that name trains")
    return found + _wrong_options(config)


def _wrong_options(config: TrainConfig) -> list[str]:
    """Settings of the recipe and of the generator that these do not take."""
    found = []
    if config.recipe in RECIPES and not (
        found := _wrong_amounts(recipe_class(config.recipe), config.recipe_options, config.styles)
    ):
        try:
            config.options()
        except (TypeError, ValueError) as error:
            found.append(f"recipe_options: {config.recipe} does not take {config.recipe_options} ({error})")
    if "styles" in config.generator_options:
        found.append("generator_options: got styles, expected none: there are as many as `--many` has artworks")
    elif config.generator in GENERATORS:
        try:
            with torch.device("meta"):  # without memory: only to see that the options fit
                build_generator(config.generator, config.all_generator_options())
        except (TypeError, KeyError, ValueError, RuntimeError) as error:
            found.append(f"generator_options: {config.generator} does not take {config.generator_options} ({error!r})")
    return found


def _wrong_amounts(recipe: Any, options: dict[str, Any], styles: tuple[str, ...]) -> list[str]:
    """Settings of the recipe alone that are of another kind than their default, or no number from 0 on."""
    if wrong := _wrong_types(recipe.Options, options):
        return wrong
    numbers = {name: value for name, value in options.items() if isinstance(value, (int, float))}
    found = [f"{name}: got {n}, expected a number from 0 on" for name, n in numbers.items() if not 0 <= n < math.inf]
    for name in (entry.name for entry in dataclasses.fields(recipe.Options) if entry.type == "StyleWeights"):
        weights = options.get(name, {})
        if odd := set(weights) - set(styles):
            known = ", ".join(styles) or "several styles in one network (--many)"
            found.append(f"{name}: got {', '.join(sorted(odd))}, expected names of {known}")
        found += [
            f"{name}: got {n!r} of {style}, expected a number from 0 on"
            for style, n in weights.items()
            if not _is_weight(n)
        ]
    return found


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _wrong_types(kind: Any, values: dict[str, Any]) -> list[str]:
    """Fields of the dataclass ``kind`` whose value is not of the kind of their default."""
    found = []
    for entry in dataclasses.fields(kind):
        if entry.name not in values:
            continue
        value = values[entry.name]
        kinds = _KINDS[str(entry.type)]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = {"Layers": "layer names with numbers", "StyleWeights": "style names with numbers"}
            found.append(f"{entry.name}: got {value!r}, expected {expected.get(str(entry.type), entry.type)}")
        elif isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
            found.append(f"{entry.name}: got {list(value)!r}, expected texts alone")
        elif entry.type == "Layers" and not _all_numbers(value):
            found.append(f"{entry.name}: got {value!r}, expected layer names with numbers")
    return found


def _out_of_range(config: TrainConfig) -> list[str]:
    at_least = {"crop": 64, "artwork_size": 64, "seed": 0, "workers": 0, "critic_strided": 0}
    at_least |= dict.fromkeys(("steps", "batch", "tick", "style_octaves", "patience", "critic_channels"), 1)
    found = [
        f"{name}: got {getattr(config, name)}, expected at least {least}"
        for name, least in at_least.items()
        if getattr(config, name) < least
    ]
    numbers = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(config) if entry.type == "float"}
    found += [
        f"{name}: got {value}, expected a number from 0 on"
        for name, value in numbers.items()
        if name not in ("ema", "start_share") and not 0 <= value < math.inf
    ]
    if config.seed >= 2**63:
        found.append(f"seed: got {config.seed}, expected less than 2^63")
    if config.crop % 16:
        found.append(f"crop: got {config.crop}, expected a multiple of 16")
    if config.crop < least_size(config.critic_strided):
        found.append(f"critic_strided: got {config.critic_strided}, too many for crops of {config.crop} pixels")
    if config.minutes is not None and not 0 < config.minutes < math.inf:
        found.append(f"minutes: got {config.minutes}, expected more than 0")
    found += [
        f"{name}: got {getattr(config, name)}, expected 0 up to, and not, 1"
        for name in ("ema", "start_share")
        if not 0 <= getattr(config, name) < 1
    ]
    if config.start_share > 0 and (config.new_style_only or not config.start):
        found.append(
            f"start_share: got {config.start_share}, expected 0 without `start`, and where a style is added to others"
        )
    return found


def _wrong_layers(config: TrainConfig) -> list[str]:
    """Layers that no loss can be made of, and octaves in which a crop is too small for the deepest of them."""
    unread = getattr(recipe_class(config.recipe), "UNREAD", ()) if config.recipe in RECIPES else ()
    found = [
        f"{name}: got {layers}, expected a layer at least, weights from 0 on and not all 0 "
        f"({name.partition('_')[0]}_weight 0 leaves the loss out)"
        for name in ("content_layers", "style_layers")
        if name not in unread and not _weighs_something(layers := getattr(config, name))
    ]
    blocks = [int(block) for layer in config.style_layers for block in re.findall(r"^relu(\d)_", layer)]
    least = 2 ** (max(blocks, default=1) - 1)  # a pixel behind as many poolings
    octaves = "style_octaves" not in unread and config.style_octaves >= 1
    if octaves and config.crop >> (config.style_octaves - 1) < least:
        found.append(f"style_octaves: got {config.style_octaves}, too many for crops of {config.crop} pixels")
    return found


def _weighs_something(layers: dict[str, float]) -> bool:
    return all(0 <= weight < math.inf for weight in layers.values()) and sum(layers.values()) > 0


def _unread(config: TrainConfig) -> list[str]:
    """Settings that were given and that the recipe does not read, its ``UNREAD``: a misunderstanding, told here."""
    if config.recipe not in RECIPES:
        return []
    recipe = recipe_class(config.recipe)
    usual = type(config)(**recipe.DEFAULTS)
    return [
        f"{name}: got {value!r}, expected none: {config.recipe} does not read it"
        for name in getattr(recipe, "UNREAD", ())
        if (value := getattr(config, name)) and value != getattr(usual, name)
    ]


def _wrong_data(config: TrainConfig) -> list[str]:
    """What the recipe needs and was not given, and what was given and it would not read."""
    needs = config.needs()
    found = [f"{name}: got none, expected {_NEEDED[name]}" for name in needs if not getattr(config, name)]
    unread = {name: getattr(config, name) for name in _NEEDED if name not in needs and getattr(config, name)}
    found += [f"{name}: got {got!r}, expected none: {config.recipe} does not read it" for name, got in unread.items()]
    return found if config.run else [*found, "run: got none, expected a folder for the run (-o)"]


def _wrong_styles(config: TrainConfig) -> list[str]:
    found = []
    expected = max(len(config.learning()), 1)
    one_each = "artworks" in config.needs() and not config.new_style_only
    if config.styles and one_each and len(config.artworks) != expected:
        found.append(f"artworks: got {len(config.artworks)}, expected one for each of {len(config.styles)} styles")
    if config.pictures and len(config.pictures) != expected:
        found.append(f"pictures: got {len(config.pictures)} folders, expected {expected}, one a style that learns")
    if len(config.styles) == 1 or len(set(config.styles)) != len(config.styles):
        found.append(f"styles: got {', '.join(config.styles)}, expected two or more different names, those of artworks")
    if odd := [name for name in config.styles if not is_style_name(name)]:
        found.append(
            f"styles: got {', '.join(map(repr, odd))}, expected names without {UNSAYABLE} (rename the artworks)"
        )
    if config.styles and config.generator in GENERATORS and not holds_several_styles(config.generator):
        able = ", ".join(filter(holds_several_styles, GENERATORS))
        found.append(f"generator: got {config.generator}, expected one that holds several styles: {able}")
    if config.new_style_only and not (config.styles and config.start):
        found.append("new_style_only: expected `styles`, the new one last, and `start`, the run that has the others")
    return found


def _half_named_pictures(config: TrainConfig) -> list[str]:
    """Folders of pictures of which only some are named like a style: neither names nor order can be meant."""
    names = {Path(folder).name for folder in config.pictures}
    learning = config.learning()
    if len(config.pictures) != len(learning) or names == set(learning) or not names & set(config.styles):
        return []
    expected = ", ".join(learning)
    return [
        f"pictures: got folders named {', '.join(sorted(names))}, expected {expected}, the styles that learn "
        "(rename the folders; where none has the name of a style, their order counts)"
    ]


def _all_numbers(layers: Any) -> bool:
    return all(isinstance(weight, (int, float)) for weight in layers.values())
