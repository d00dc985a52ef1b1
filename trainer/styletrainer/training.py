"""What a run consists of: modules, optimisers, device and precision; and the folder that it goes on in."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from styletrainer.checkpoint import WEIGHTS, load_checkpoint, load_state, load_weights
from styletrainer.config import TrainConfig, changed_settings, config_from_run
from styletrainer.discriminators import PatchGAN
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.muon import Muon
from styletrainer.perceptual import load_weight_sets
from styletrainer.recipes.hybrid import Hybrid

# Tensors of the generator with a row a style; the first of them learns, the others follow.
PER_STYLE = ("affine", "mean", "variance")


@dataclass
class Training:
    """Everything that a step touches. ``generator`` and ``critic`` are wrapped by Fabric."""

    config: TrainConfig
    fabric: Fabric
    generator: nn.Module
    averaged: nn.Module
    critic: nn.Module
    optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    recipe: Hybrid
    step: int = 0
    seconds: float = 0.0

    def style(self) -> tuple[int, Tensor | None]:
        """The style that this step trains: which one of those that learn, and the generator's mixing weights."""
        names = self.config.styles
        if not names:
            return 0, None
        turn = 0 if self.config.new_style_only else self.step % len(names)
        number = len(names) - 1 if self.config.new_style_only else turn
        return turn, torch.eye(len(names), device=self.fabric.device)[number]

    def state(self) -> dict[str, Any]:
        return {
            "generator": bare(self.generator).state_dict(),
            "averaged": self.averaged.state_dict(),
            "critic": bare(self.critic).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        load_state(bare(self.generator), state["generator"], "the checkpoint")
        load_state(self.averaged, state["averaged"], "the checkpoint")
        load_state(bare(self.critic), state["critic"], "the checkpoint's critic")
        if _groups(state["optimizer"]) != _groups(self.optimizer.state_dict()):
            run = self.config.run
            raise TrainError(
                f"got: {run}, whose checkpoint of step {state['step']} is of an earlier version's optimiser; expected: "
                f"one of Muon, with the same groups of parameters. Nothing in {run} was changed.\n"
                f"Do this: begin a new run with its weights: the same command with another -o, and --start {run}"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    @property
    def done(self) -> float:
        """Share of the run that is behind us, 0-1."""
        by_steps = self.step / self.config.steps
        by_time = self.seconds / (60 * self.config.minutes) if self.config.minutes else 0.0
        # Every process must stop at the same step, so the first one's clock counts.
        return float(self.fabric.broadcast(max(by_steps, by_time)))


def set_up(config: TrainConfig, artworks: list[list[Tensor]]) -> Training:
    """Build the modules and optimisers, on their device and in their precision. ``artworks``: a list a style."""
    # Stored with the run: a resumed run computes in the precision that it began with.
    config = dataclasses.replace(config, precision=chosen_precision(config))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    nodes = world // int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=world // nodes,
        num_nodes=nodes,
        strategy="ddp" if world > 1 else "auto",
        precision=config.precision,  # type: ignore[arg-type]
    )
    if world > 1:
        fabric.launch()
    torch.manual_seed(config.seed)
    generator = build_generator(config.generator, config.all_generator_options())
    if config.start:
        _begin_with(generator, config, Path(config.start))
    if config.new_style_only:
        _learn_last_style(generator)
    critic = PatchGAN(config.critic_channels, config.critic_strided)
    averaged = build_generator(config.generator, config.all_generator_options())
    averaged.load_state_dict(generator.state_dict())
    averaged = averaged.requires_grad_(False).eval().to(fabric.device)
    recipe = Hybrid(
        config,
        [[a[None] for a in of_style] for of_style in artworks],
        load_weight_sets([Path(p) for p in config.vgg]),
    )
    optimizer = Muon(_parameter_groups(generator), config.learning_rate)
    critic_optimizer = torch.optim.Adam(critic.parameters(), config.critic_learning_rate, betas=(0.0, 0.99))
    if config.compile:
        # In place: names of weights stay, and the average is never compiled.
        generator.compile()
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator, optimizer = fabric.setup(generator, optimizer)
    critic, critic_optimizer = fabric.setup(critic, critic_optimizer)
    return Training(config, fabric, generator, averaged, critic, optimizer, critic_optimizer, recipe.to(fabric.device))


def _parameter_groups(generator: nn.Module) -> list[dict[str, Any]]:
    """What learns; a style's own parameters five times as fast, since they have a turn less often and far to go."""
    learning = {name: p for name, p in generator.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for name, p in learning.items() if not name.endswith("affine")], "pace": 1.0},
        {"params": [p for name, p in learning.items() if name.endswith("affine")], "pace": 5.0},
    ]
    return [group for group in groups if group["params"]]


def _groups(optimizer: dict[str, Any]) -> list[tuple[bool | None, int]]:
    """What has to be the same for an optimiser's state to fit: each group's kind, and how many parameters it has."""
    return [(group.get("kernels"), len(group["params"])) for group in optimizer["param_groups"]]


def chosen_precision(config: TrainConfig) -> str:
    """bf16 is ten times faster where the device has it, and slower than fp32 where it is emulated."""
    if config.precision != "auto":
        return config.precision
    if config.accelerator in ("auto", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        native = config.accelerator in ("auto", "cpu") and bool(asked and asked())
    return "bf16-mixed" if native else "32-true"


def _begin_with(generator: nn.Module, config: TrainConfig, run: Path) -> None:
    """Load the weights of ``run``; of a run of several styles a run of one takes its own."""
    before = config_from_run(run)
    expected = config.styles[:-1] if config.new_style_only else config.styles
    if config.styles and before.styles != expected:
        raise TrainError(
            f"got: start {run} with the styles {', '.join(before.styles) or '(one)'}; expected: {', '.join(expected)}, "
            "in this order.\nDo this: name the artworks in the order of that run."
        )
    if config.styles or not before.styles:
        load_weights(generator, run / WEIGHTS, grow=PER_STYLE if config.new_style_only else ())
        return
    name = Path(config.artworks[0]).stem
    if name not in before.styles:
        raise TrainError(
            f"got: start {run} with the styles {', '.join(before.styles)}; expected: {name}, this run's artwork, "
            "among them.\nDo this: start from a run that has it, or leave --start out."
        )
    many = build_generator(before.generator, before.all_generator_options())
    load_weights(many, run / WEIGHTS)
    load_state(generator, many.single(before.styles.index(name)).state_dict(), str(run))  # type: ignore[operator]


def _learn_last_style(generator: nn.Module) -> None:
    """Freeze all but what styles have of their own: the others never have their turn, and get no gradient."""
    for name, parameter in generator.named_parameters():
        parameter.requires_grad_(name.endswith("affine"))


def open_run(training: Training, run: Path, resume: bool) -> None:
    """Make the run folder, or go on with the run that it holds."""
    config = training.config
    state = load_checkpoint(run)
    if state is not None:
        if not resume:
            raise TrainError(
                f"got: {run}, which holds a run at step {state['step']}; expected: a new folder.\n"
                "Do this: leave --no-resume out to go on with it, or name another folder."
            )
        _refuse_other_settings(config, config_from_run(run), run)
        training.load(state)
    if training.fabric.is_global_zero:
        try:
            run.mkdir(parents=True, exist_ok=True)
            config.save(run / "config.json")
        except OSError as error:
            raise TrainError(f"got: {error}; expected: a run folder that can be written.") from error
    training.fabric.barrier()


def _refuse_other_settings(config: TrainConfig, before: TrainConfig, run: Path) -> None:
    if changed := changed_settings(before, config):
        listed = "\n  ".join(changed)
        raise TrainError(
            f"{run} holds a run of other settings:\n  {listed}\n"
            "Do this: give the same settings to go on, or name another folder."
        )


def bare(module: nn.Module) -> nn.Module:
    """The module inside Fabric's (and DDP's) wrappers."""
    inner: nn.Module = getattr(module, "module", module)
    return inner
