"""How a run begins with the weights of another."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from styletrainer.config import TrainConfig, config_from_run
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import WEIGHTS, load_state, load_weights


def begin_with(generator: nn.Module, config: TrainConfig, run: Path) -> None:
    """Load the weights of ``run``; of a run of several styles a run of one takes its own."""
    before = config_from_run(run)
    if before.generator != config.generator:
        raise TrainError(
            f"got: start {run}, a run of generator {before.generator}; expected: one of {config.generator}.\n"
            "Do this: start from a run of the same generator, or leave --start out."
        )
    sizes = [each.generator_options.get("size", "small") for each in (before, config)]
    if config.generator == "realtime" and sizes[0] != sizes[1]:
        raise TrainError(
            f"got: start {run}, a network of size {sizes[0]}; expected: {sizes[1]}.\nDo this: add --size {sizes[0]}."
        )
    expected = config.styles[:-1] if config.new_style_only else config.styles
    if config.styles and before.styles != expected:
        raise TrainError(
            f"got: start {run} with the styles {', '.join(before.styles) or '(one)'}; expected: {', '.join(expected)}, "
            "in this order.\n"
            + (
                "Do this: name the artworks in the order of that run."
                if before.styles
                else "Do this: leave --many out."
            )
        )
    if config.styles or not before.styles:
        load_weights(generator, run / WEIGHTS, grow=generator.grown if config.new_style_only else None)  # type: ignore[arg-type]
        return
    name = Path(config.artworks[0]).stem
    if name not in before.styles:
        raise TrainError(
            f"got: start {run} with the styles {', '.join(before.styles)}; expected: {name}, this run's artwork, "
            f"among them.\nDo this: add a style to it with --add-to {run}, or start from a run of one style."
        )
    many = build_generator(before.generator, before.all_generator_options())
    load_weights(many, run / WEIGHTS)
    load_state(generator, many.single(before.styles.index(name)).state_dict(), str(run))  # type: ignore[operator]


def learn_last_style(generator: nn.Module) -> None:
    """Freeze all but what the last style has of its own."""
    generator.requires_grad_(False)
    for parameter in generator.parameters_of_last_style():  # type: ignore[operator]
        parameter.requires_grad_(True)
