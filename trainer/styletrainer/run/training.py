"""What a run consists of: a recipe, its players, device and precision; and the folder that it goes on in."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from styletrainer.config import TrainConfig, changed_settings, config_from_run
from styletrainer.errors import TrainError
from styletrainer.recipe import Player, Recipe
from styletrainer.recipes import recipe_class
from styletrainer.run.balance import Balance
from styletrainer.run.checkpoint import load_checkpoint, load_state
from styletrainer.run.devices import chosen_device, computes_bf16
from styletrainer.run.report import ORIGIN
from styletrainer.run.stopping import Stopping


@dataclass
class Training:
    """Everything that a step touches."""

    config: TrainConfig
    fabric: Fabric
    recipe: Recipe
    players: dict[str, Player]
    averaged: nn.Module
    first: nn.Module | None = None  # what the run began with, where its end gets a share of that
    balance: Balance | None = None
    stopping: Stopping | None = None
    step: int = 0
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        state = {"averaged": self.averaged.state_dict(), "step": self.step, "seconds": self.seconds}
        state["world"], state["contents"] = self.fabric.world_size, contents_of(self.config)
        for name, player in self.players.items():
            state[name] = player.module.state_dict()
            state[_optimizer_key(name)] = player.optimizer.state_dict()
        if self.balance is not None:
            state["balance"] = self.balance.state()
        if self.stopping is not None:
            state["stopping"] = self.stopping.state()
        return state

    def load(self, state: dict[str, Any]) -> None:
        self._refuse_other_world(state)
        self._refuse_other_contents(state)
        load_state(self.averaged, state["averaged"], "the checkpoint")
        for name, player in self.players.items():
            load_state(player.module, state[name], f"the checkpoint's {name}")
            stored = state[_optimizer_key(name)]
            if _groups(stored) != _groups(player.optimizer.state_dict()):
                run = self.config.run
                raise TrainError(
                    f"got: {run}, whose checkpoint of step {state['step']} is of an earlier version's optimiser; "
                    f"expected: one with the same groups of parameters. Nothing in {run} was changed.\n"
                    f"Do this: begin a new run with its weights: the same command with another -o, and --start {run}"
                )
            player.optimizer.load_state_dict(stored)
        if self.balance is not None:
            self.balance.load(state["balance"])
        if self.stopping is not None:
            self.stopping.load(state["stopping"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _refuse_other_world(self, state: dict[str, Any]) -> None:
        """As many processes share a batch, and so see the same items, as before."""
        before, now = state.get("world", self.fabric.world_size), self.fabric.world_size
        if before != now:
            run = self.config.run
            raise TrainError(
                f"got: {now} process(es) for {run}, a run of {before} at step {state['step']}; expected: {before}, "
                "each with a batch of its own.\n"
                f"Do this: start it with {before} process(es) again (torchrun), or name another folder."
            )

    def _refuse_other_contents(self, state: dict[str, Any]) -> None:
        now = contents_of(self.config)
        if other := [name for name, mark in state.get("contents", {}).items() if now.get(name, mark) != mark]:
            raise TrainError(
                f"got: {', '.join(other)}, not as {self.config.run} had it until step {state['step']}; expected: the "
                "same files, so that the run goes on as one.\n"
                "Do this: bring the file of before back, or begin another run with --start."
            )

    @torch.no_grad()
    def mix_in_first(self) -> None:
        """Give the average its share of the weights that the run began with (WiSE-FT, Wortsman et al. 2022)."""
        if self.first is None:
            return
        theirs = self.first.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name], self.config.start_share)

    def refuse_not_finite(self) -> None:
        """Raise TrainError where a weight or a statistic is no number: such a state must not be saved.

        A loss tells of the weights before its step, and of no player whose turn the step did not have.
        """
        modules = {name: player.module for name, player in self.players.items()} | {"average": self.averaged}
        for name, module in modules.items():
            if not torch.stack([value.isfinite().all() for value in module.state_dict().values()]).all():
                raise TrainError(
                    f"got: weights of the {name} that are not finite at step {self.step}; "
                    "the checkpoint from before is kept.\n"
                    "Do this: lower learning_rate or critic_learning_rate, or train with precision 32-true."
                )

    @property
    def done(self) -> float:
        """Share of the run that is behind us, 0-1."""
        if self.stopping is not None and self.stopping.plateau is not None and self.step >= self.stopping.end:
            return 1.0
        by_steps = self.step / self.config.steps
        by_time = self.seconds / (60 * self.config.minutes) if self.config.minutes else 0.0
        # Every process must stop at the same step, so the first one's clock counts.
        return float(self.fabric.broadcast(max(by_steps, by_time)))


def set_up(config: TrainConfig) -> Training:
    """Read the data, build the modules and optimisers, on their device and in their precision."""
    # Stored with the run: a resumed run computes in the precision that it began with.
    config = dataclasses.replace(config, precision=chosen_precision(config))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen_device(config.accelerator)  # refuses one that is not there
    if world > 1:
        refuse_options_of_one_process(config)
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
    recipe = recipe_class(config.recipe)(config)
    config = recipe.config
    recipe.to(fabric.device)
    averaged = copy.deepcopy(recipe.generator).requires_grad_(False).eval()
    players: dict[str, Player] = recipe.players()
    for player in players.values():
        player.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        # In place: names of weights stay, and the average is never compiled.
        recipe.generator.compile()
    balance = Balance(config.look, fabric) if config.look else None
    stopping = Stopping(config.patience, fabric) if config.stop_when_good else None
    first = copy.deepcopy(averaged) if config.start_share else None
    return Training(config, fabric, recipe, players, averaged, first, balance, stopping)


def contents_of(config: TrainConfig) -> dict[str, str]:
    """File name -> SHA-256 of every file that says what is learned: artworks, and the list of pairs."""
    files = [Path(file) for file in (*config.artworks, config.pairs) if os.path.isfile(file)]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def refuse_options_of_one_process(config: TrainConfig) -> None:
    """A generator's options whose draws or statistics would be each process' own: not one run, but several."""
    options = config.generator_options
    bad = [name for name in ("noise", "dropout") if options.get(name)]
    if bad := bad + (["norm batch"] if options.get("norm") == "batch" else []):
        raise TrainError(
            f"got: {', '.join(bad)} of generator {config.generator} with several processes; expected: options whose "
            "random numbers and statistics all of them share.\n"
            "Do this: leave those options out, or train in one process."
        )


def _optimizer_key(player: str) -> str:
    return "optimizer" if player == "generator" else f"{player}_optimizer"


def _groups(optimizer: dict[str, Any]) -> list[tuple[bool | None, int]]:
    """What has to be the same for an optimiser's state to fit: each group's kind, and how many parameters it has."""
    return [(group.get("kernels"), len(group["params"])) for group in optimizer["param_groups"]]


def chosen_precision(config: TrainConfig) -> str:
    """bf16 is ten times faster where the device has it, and slower than fp32 where it is emulated."""
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if computes_bf16(config.accelerator) else "32-true"


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
    elif (run / ORIGIN).is_file():
        raise TrainError(
            f"got: {run}, which `stylesdk import` made of a model; expected: a folder of its own for what is learned.\n"
            f"Do this: add --start {run}, and name another folder with -o."
        )
    _refuse_other_weights(training)
    if training.fabric.is_global_zero:
        try:
            run.mkdir(parents=True, exist_ok=True)
            config.save(run / "config.json")
        except OSError as error:
            raise TrainError(f"got: {error}; expected: a run folder that can be written.") from error
    training.fabric.barrier()


def _refuse_other_weights(training: Training) -> None:
    """All processes begin at the same step with the same weights: a node without the run folder would begin anew."""
    fabric = training.fabric
    if fabric.world_size == 1:
        return
    # The bits of all weights as integers: unlike a sum of floats it is the same on every machine.
    found = [p.detach().view(torch.int32).sum() for each in training.players.values() for p in each.module.parameters()]
    mine = torch.stack([torch.tensor(training.step, device=fabric.device), torch.stack(found).sum()])
    every = fabric.all_gather(mine)
    assert isinstance(every, torch.Tensor)
    if len(every.unique(dim=0)) > 1:
        steps = ", ".join(map(str, every[:, 0].tolist()))
        raise TrainError(
            f"got: processes at the steps {steps} of {training.config.run}, or with other weights; expected: the same "
            "run everywhere.\n"
            "Do this: put the run folder on a disk that all nodes share, or copy it to each of them."
        )


def _refuse_other_settings(config: TrainConfig, before: TrainConfig, run: Path) -> None:
    if changed := changed_settings(before, config):
        listed = "\n  ".join(changed)
        raise TrainError(
            f"{run} holds a run of other settings:\n  {listed}\n"
            "Do this: give the same settings to go on, or name another folder."
        )
