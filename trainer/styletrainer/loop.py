"""The training loop: data, D step, G step, average, tick. Read ``train`` from top to bottom."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from styletrainer.checkpoint import save_checkpoint
from styletrainer.config import TrainConfig
from styletrainer.data import (
    Crops,
    crop_batches,
    list_photos,
    read_artwork,
    read_picture,
    scaled,
    tensor_from_rgb,
)
from styletrainer.errors import TrainError
from styletrainer.losses import equivariance_loss
from styletrainer.pictures import photos_with_pictures
from styletrainer.report import Report, write_samples
from styletrainer.training import Training, bare, open_run, set_up
from styletrainer.views import generate_views


def train(config: TrainConfig, console: Console, resume: bool = True) -> Path:
    """Train until the steps or minutes of ``config`` are used up; returns the run folder.

    A run folder with a checkpoint is continued exactly (the same weights as a run never stopped).

    Raises:
        TrainError: bad input or settings, a run of other settings in the folder, a full disk, a loss
            that is no longer finite. The last checkpoint is kept.
        KeyboardInterrupt: on SIGINT or SIGTERM, after a checkpoint.
    """
    run = Path(config.run)
    folder = Path(config.photos)
    photos, pictures = photos_with_pictures(list_photos(folder), folder, [Path(p) for p in config.pictures])
    scans = [read_artwork(Path(p), config.artwork_size, config.crop) for p in config.artworks]
    one_each = config.styles and not config.new_style_only
    artworks = [[artwork] for artwork in scans] if one_each else [scans]
    training = set_up(config, [[tensor_from_rgb(a) for a in of_style] for of_style in artworks])
    fabric = training.fabric
    open_run(training, run, resume)
    samples = _sample_photos(photos)
    sheet_artworks = [tensor_from_rgb(of_style[0]) for of_style in artworks]
    batches = crop_batches(
        Crops(photos, artworks, config.crop, config.batch * fabric.world_size, config.seed, pictures),
        first_step=training.step,
        batch=config.batch,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=config.workers,
    )
    figures = _Figures(training.seconds)
    quiet = Console(quiet=True)
    with (
        _stop_signals() as stopping,
        Report(run, training.step, fabric.is_global_zero, console if fabric.is_global_zero else quiet) as report,
    ):
        done = training.done
        # A short run has checkpoints too.
        tick = min(config.tick, max(config.steps // 4, 1))
        while done < 1:
            began = time.monotonic()
            photo, artwork, picture, skipped = next(batches)
            batch = [fabric.to_device(x) for x in (photo, artwork, picture)]
            terms = _step(training, done, *batch)
            training.step += 1
            training.seconds += time.monotonic() - began
            done = training.done
            figures.add(terms, skipped)
            report.step(training.step, done, training.seconds * (1 / max(done, 1e-9) - 1))
            # Every process must do the same next, so the first one's signals count, as its clock does.
            stop = bool(fabric.broadcast(stopping.is_set()))
            if training.step % tick == 0 or done >= 1 or stop:
                values = figures.take(training, config.batch * fabric.world_size)
                if fabric.is_global_zero:
                    save_checkpoint(run, training.state(), training.averaged)
                    report.tick(training.step, values)
                    name = f"samples-{training.step:06d}.png"
                    write_samples(run / name, training.averaged, samples, sheet_artworks)
                fabric.barrier()
            if stop:
                raise KeyboardInterrupt
    return run


def _step(training: Training, done: float, photo: Tensor, artwork: Tensor, picture: Tensor) -> dict[str, Tensor]:
    """One D step and one G step on a batch; returns the losses, detached. ``picture`` is empty without a teacher."""
    config, fabric, recipe = training.config, training.fabric, training.recipe
    # All randomness of a step comes from its number, so that a resumed run repeats it.
    torch.manual_seed(hash((config.seed, training.step)) % 2**63)
    factor = min(1.0, (training.step + 1) / 100) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    for optimizer, rate in (
        (training.optimizer, config.learning_rate),
        (training.critic_optimizer, config.critic_learning_rate),
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor * group.get("pace", 1.0)
    photo = photo.contiguous(memory_format=torch.channels_last)
    terms: dict[str, Tensor] = {}

    turn, style = training.style()
    output, moved_output, shift, light = generate_views(training, photo, style)

    # Update the critic.
    if config.adversarial_weight:
        terms["critic"] = recipe.critic_loss(training.critic, artwork, output.detach())
        training.critic_optimizer.zero_grad()
        fabric.backward(terms["critic"])
        training.critic_optimizer.step()

    # Update the generator. The bare critic: its gradients are not wanted and must not be exchanged.
    critic = bare(training.critic).requires_grad_(False)
    with fabric.autocast():
        wanted = recipe.generator_terms(output, photo, critic, turn, picture if picture.numel() else None)
    if moved_output is not None:
        wanted["equivariance"] = equivariance_loss(moved_output - light, output, shift)
    total = recipe.total(wanted)
    training.optimizer.zero_grad()
    fabric.backward(total)
    norm = fabric.clip_gradients(training.generator, training.optimizer, max_norm=1.0, error_if_nonfinite=False)
    if norm is not None:
        terms["gradient_norm"] = norm  # not finite: the tick says so, and saves nothing
    training.optimizer.step()
    critic.requires_grad_(True)

    # Update the average.
    _average(training.averaged, bare(training.generator), config.ema, training.step)
    return {"total": total.detach(), **{k: v.detach() for k, v in (terms | wanted).items()}}


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


def _sample_photos(photos: list[Path], count: int = 4, side: int = 256) -> list[Tensor]:
    """The same few photos at every tick: centre squares (3, side, side), spread over the folder."""
    samples: list[Tensor] = []
    spread = photos[:: max(len(photos) // count, 1)]
    for path in dict.fromkeys([*spread, *photos]):
        picture = read_picture(path) if len(samples) < count else None
        if picture is not None:
            picture = scaled(picture, side)
            y, x = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
            samples.append(tensor_from_rgb(picture[y : y + side, x : x + side]))
    return samples


class _Figures:
    """Mean losses since the last tick, summed on the device: no synchronisation in between."""

    def __init__(self, seconds: float) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count, self.skipped, self.seconds = 0, 0, seconds

    def add(self, terms: dict[str, Tensor], skipped: int) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1
        self.skipped += skipped

    def take(self, training: Training, images_a_step: int) -> dict[str, float]:
        """Means since the last call. Raises TrainError where one is not finite: nothing is saved then."""
        values = {name: float(total) / self.count for name, total in self.sums.items()}
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise TrainError(
                f"got: loss {', '.join(bad)} is not finite before step {training.step}; "
                "the checkpoint from before is kept.\n"
                "Do this: lower learning_rate, or train with precision 32-true."
            )
        elapsed = training.seconds - self.seconds
        values["images_per_second"] = self.count * images_a_step / max(elapsed, 1e-9)
        values["skipped_photos"] = float(self.skipped)
        self.sums, self.count, self.seconds = {}, 0, training.seconds
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
