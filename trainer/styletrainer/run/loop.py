"""The training loop: batch, turns, average, tick. Read ``train`` from top to bottom."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from styletrainer.config import TrainConfig
from styletrainer.errors import TrainError
from styletrainer.generators.branches import BranchedConv
from styletrainer.recipe import Batch, Step, Turn
from styletrainer.run.checkpoint import save_checkpoint
from styletrainer.run.devices import out_of_memory_told
from styletrainer.run.report import Report, write_sheet
from styletrainer.run.stopping import judged
from styletrainer.run.training import Training, open_run, set_up

# Of training: the first picture to look at, long before the first tick of a slow machine.
EARLY_SECONDS = 30.0
_WARM_UP = 100  # steps; running statistics of fewer are not yet those of the photos
# How far the rate has fallen when batch normalisation settles: half of its steps are left to get used to that.
_SETTLED = 0.5


@out_of_memory_told()
def train(config: TrainConfig, console: Console, resume: bool = True) -> Path:
    """Train until the steps or minutes of ``config`` are used up; returns the run folder.

    A run folder with a checkpoint is continued exactly (the same weights as a run never stopped).

    Raises:
        TrainError: bad input or settings, a run of other settings in the folder, a full disk or memory, a loss
            or weights that are no longer finite. The last checkpoint is kept.
        KeyboardInterrupt: on SIGINT or SIGTERM, after a checkpoint.
    """
    run = Path(config.run)
    training = set_up(config)
    fabric = training.fabric
    open_run(training, run, resume)
    batches = training.recipe.batches(training.step, fabric.global_rank, fabric.world_size)
    figures = _Figures(training.seconds)
    quiet = Console(quiet=True)
    with (
        _stop_signals() as signals,
        Report(run, training.step, fabric.is_global_zero, console if fabric.is_global_zero else quiet) as report,
    ):
        done = training.done
        # A short run has checkpoints too.
        tick = min(config.tick, max(config.steps // 4, 1))
        while done < 1:
            began = time.monotonic()
            batch = next(batches)
            skipped = int(batch.pop("skipped", torch.zeros(1)).sum())
            terms = _step(training, done, fabric.to_device(batch))
            training.step += 1
            before, training.seconds = training.seconds, training.seconds + time.monotonic() - began
            done = training.done
            figures.add(terms, skipped)
            report.step(training.step, done, training.seconds * (1 / max(done, 1e-9) - 1))
            if training.stopping is not None and training.stopping.plateau == training.step:
                report.say(f"step {training.step}: {training.stopping.why}")
            # Every process must do the same next, so the first one's signals count, as its clock does.
            stop = bool(fabric.broadcast(signals.is_set()))
            if training.step % tick == 0 or done >= 1 or stop:
                values = figures.take(training, config.batch * fabric.world_size)
                if done >= 1:
                    training.mix_in_first()
                training.refuse_not_finite()
                if fabric.is_global_zero:
                    if finish := getattr(training.recipe, "finish", None):
                        finish(training.averaged)
                    save_checkpoint(run, training.state(), training.averaged)
                    scores = getattr(training.recipe, "scores", None)
                    report.tick(training.step, values | (scores(training.averaged) if scores else {}))
                    _write_samples(training, run)
                    if done >= 1 or stop:
                        _write_report(training, run, done)
                fabric.barrier()
            elif before < EARLY_SECONDS <= training.seconds and fabric.is_global_zero:
                _write_samples(training, run)
            if stop:
                raise KeyboardInterrupt
    return run


def _write_samples(training: Training, run: Path) -> None:
    write_sheet(run / f"samples-{training.step:06d}.png", training.recipe.sheet(training.averaged))


def _write_report(training: Training, run: Path, done: float) -> None:
    from styletrainer.pages.report import write_run_report  # matplotlib takes a second to import

    why = training.stopping.why if training.stopping is not None else ""
    how = "Finished" if done >= 1 else "Interrupted (the same command goes on from here)"
    ended = f"{how} at step {training.step}, after {training.seconds / 60:.1f} minutes of training."
    write_run_report(run, training.config, f"{ended} Stopped when good: {why}." if why else ended)


def _step(training: Training, done: float, batch: Batch) -> dict[str, Tensor]:
    """Every player's turn on a batch, and the average; returns the losses, detached."""
    config, fabric = training.config, training.fabric
    # All randomness of a step comes from its number, so that a resumed run repeats it.
    torch.manual_seed(hash((config.seed, training.step)) % 2**63)
    fallen = _set_rates(training, done)
    if fallen >= _SETTLED and training.step >= _WARM_UP:
        _settle(training.recipe.generator)
    batch = {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in batch.items()}
    step = Step(training.step, done, config.seed, config.batch, fabric.global_rank, fabric.world_size)
    turns = training.recipe.turns(batch, step)
    found: dict[str, Tensor] = {}
    gains: list[Tensor] = []
    while True:
        with fabric.autocast():
            turn = next(turns, None)
        if turn is None:
            break
        if training.stopping is not None and turn.player == "generator":
            gains.append(judged(turn))
        found |= _learn(training, turn if training.balance is None else training.balance.weighed(turn))
    if training.stopping is not None and gains:  # not every step of every recipe is the generator's
        training.stopping.add(gains, training.step + 1)
    _average(training.averaged, training.recipe.generator, config.ema, training.step)
    return found


def _set_rates(training: Training, done: float) -> float:
    """A warm-up, then a cosine to zero: from the start, or where ``--stop-when-good`` lets it begin.

    Returns how far the fall is, 0-1.
    """
    fallen = min(done, 1.0) if training.stopping is None else training.stopping.fallen(training.step, done)
    factor = min(1.0, (training.step + 1) / _WARM_UP) * (1 + math.cos(math.pi * fallen)) / 2
    for player in training.players.values():
        for group in player.optimizer.param_groups:
            group["lr"] = player.rate * factor * group.get("pace", 1.0)
    return fallen


def _settle(generator: nn.Module) -> None:
    """From here on its batch normalisation is what it will be at inference: constants, the statistics so far.

    Batches are small, and a network learns to rely on being normalised by the very photos that it paints.
    """
    for module in generator.modules():
        if isinstance(module, BranchedConv):
            module.eval()


def _learn(training: Training, turn: Turn) -> dict[str, Tensor]:
    """One step of the player whose turn it is; returns its losses, detached."""
    player, total = training.players[turn.player], turn.total()
    found = {name: term.detach() for name, term in turn.terms.items()}
    player.optimizer.zero_grad()
    training.fabric.backward(total)
    parameters = [p for group in player.optimizer.param_groups for p in group["params"]]
    _share_gradients(training, parameters)
    if turn.player == "generator":
        found["total"] = total.detach()
    if player.max_norm is not None:
        # Not finite: the tick says so, and saves nothing.
        found["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, player.max_norm, error_if_nonfinite=False)
    player.optimizer.step()
    return found


def _share_gradients(training: Training, parameters: list[Tensor]) -> None:
    """Average the gradients over all processes.

    At once after the backward pass, and not by DDP's hooks: a turn may use a module several times, in part, or
    through several methods. The networks are small; there is nothing to hide the exchange behind.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if training.fabric.world_size == 1 or not gradients:
        return
    mean = training.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
    assert isinstance(mean, Tensor)
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def _average(averaged: nn.Module, generator: nn.Module, ema: float, step: int) -> None:
    """Exponential average of the weights; short at first, so that the start is forgotten."""
    decay = min(ema, (1 + step) / (10 + step))
    ours, theirs = averaged.state_dict(), generator.state_dict()
    for name, value in ours.items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 1 - decay)
        else:
            value.copy_(theirs[name])


class _Figures:
    """Mean losses since the last tick, summed on the device: no synchronisation in between."""

    def __init__(self, seconds: float) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()  # a loss that not every step has is a mean over those that have it
        self.count, self.skipped, self.seconds = 0, 0, seconds

    def add(self, terms: dict[str, Tensor], skipped: int) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.counts.update(terms.keys())
        self.count += 1
        self.skipped += skipped

    def take(self, training: Training, images_a_step: int) -> dict[str, float]:
        """Means since the last call. Raises TrainError where one is not finite: nothing is saved then."""
        values = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise TrainError(
                f"got: loss {', '.join(bad)} is not finite before step {training.step}; "
                "the checkpoint from before is kept.\n"
                "Do this: lower learning_rate, or train with precision 32-true."
            )
        elapsed = training.seconds - self.seconds
        values["seconds"] = training.seconds
        values["images_per_second"] = self.count * images_a_step / max(elapsed, 1e-9)
        values["skipped_photos"] = float(self.skipped)
        self.sums, self.counts = {}, Counter()
        self.count, self.seconds = 0, training.seconds
        return values


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a run stops between two steps."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.signal(s, lambda *_: event.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
