"""Training for real, on a small set: falling losses, exact resume after a kill, DDP, and every refusal."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from runs import Settings, assert_same_weights, run, stats
from safetensors.torch import load_file
from typer.testing import CliRunner

from styletrainer.cli import app
from styletrainer.config import config_from_dict
from styletrainer.errors import TrainError
from styletrainer.recipe import Batch, Step, Turn
from styletrainer.recipes.cyclegan import CycleGAN
from styletrainer.run import loop
from styletrainer.run.checkpoint import CHECKPOINT, WEIGHTS, load_checkpoint
from styletrainer.run.loop import train
from styletrainer.run.report import STATS
from styletrainer.run.training import chosen_precision, refuse_options_of_one_process


def test_losses_fall_and_the_run_folder_is_complete(settings: Settings) -> None:
    folder = run(settings, steps=24, tick=4, learning_rate=2e-2)
    lines = stats(folder)
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
    assert lines[-1]["style"] < 0.8 * lines[0]["style"]
    assert {"total", "critic", "content", "adversarial", "tv", "grid", "equivariance"} <= lines[0].keys()
    sheet = cv2.imread(str(folder / "samples-000024.png"))
    assert sheet.shape == (512, 5 * 256, 3)
    assert list((folder / "tensorboard").iterdir())
    assert json.loads((folder / "config.json").read_text())["steps"] == 24
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize("adversarial", ["bce", "lsgan"])
def test_adversarial_forms_train(settings: Settings, adversarial: str) -> None:
    assert np.isfinite(stats(run(settings, adversarial=adversarial, steps=3))[-1]["critic"])


@pytest.mark.parametrize("generator", ["unet", "johnson"])
def test_other_generators_train(settings: Settings, generator: str) -> None:
    options = {"unet": {"ngf": 8, "n_blocks": 1, "noise": True}, "johnson": {"channels": 8, "n_blocks": 1}}
    folder = run(settings, generator=generator, generator_options=options[generator], steps=3)
    assert (folder / WEIGHTS).is_file()


def test_normalisation_settles_half_way_and_what_learns_after_that_is_what_will_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def average(averaged: torch.nn.Module, generator: torch.nn.Module, ema: float, step: int) -> None:
        seen.append({name: value.detach().clone() for name, value in generator.state_dict().items()})

    monkeypatch.setattr(loop, "_average", average)
    monkeypatch.setattr(loop, "_WARM_UP", 3)
    run(settings, steps=10)
    moved = {
        name: [not torch.equal(before[name], after[name]) for before, after in itertools.pairwise(seen)]
        for name in ("trunk.0.mean", "trunk.0.variance", "trunk.0.direction", "trunk.0.affine")
    }
    assert moved["trunk.0.mean"] == moved["trunk.0.variance"] == [True] * 4 + [False] * 5
    assert moved["trunk.0.direction"] == moved["trunk.0.affine"] == [True] * 9


def test_run_stores_the_precision_that_auto_chose(settings: Settings) -> None:
    folder = run(settings, precision="auto", steps=3)
    assert json.loads((folder / "config.json").read_text())["precision"] in ("bf16-mixed", "32-true")
    run(settings, precision="auto", steps=6)  # and is the same run when asked for again


def test_auto_does_not_take_bf16_where_the_gpu_emulates_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    config = config_from_dict(settings | {"precision": "auto", "accelerator": "cuda"}, "the test")
    assert chosen_precision(config) == "32-true"


def test_bf16_trains(settings: Settings) -> None:
    assert np.isfinite(stats(run(settings, precision="bf16-mixed"))[-1]["total"])


def test_same_seed_same_weights_other_seed_other_weights(settings: Settings, tmp_path: Path) -> None:
    first = run(settings)
    assert_same_weights(first, run(settings, run=str(tmp_path / "again"), workers=1))
    other = load_file(run(settings, run=str(tmp_path / "other"), seed=1) / WEIGHTS)
    assert not torch.equal(other["stem.direction"], load_file(first / WEIGHTS)["stem.direction"])


def command(settings: Settings, folder: Path, **changes: object) -> list[str]:
    both = settings | changes
    line = [sys.executable, "-m", "stylesdk.cli", "train", *both["artworks"]]  # type: ignore[misc]
    line += ["--photos", both["photos"], "-o", str(folder), "--steps", str(both["steps"]), "--device", "cpu"]
    line += ["--vgg", both["vgg"][0], "--precision", "32-true", "--size", "nano"]  # type: ignore[index]
    for name in ("batch", "crop", "artwork_size", "critic_channels", "critic_strided", "workers", "tick"):
        line += ["--set", f"{name}={both[name]}"]
    return line


def here(line: list[str]) -> None:
    """Run a command in this process, which has imported torch already."""
    CliRunner().invoke(app, line[4:], catch_exceptions=False)


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / STATS).is_file() and any(line["step"] >= step for line in _whole_lines(folder)):
            return
        time.sleep(0.02)
    raise AssertionError("the run did not reach its checkpoint in 120 s")


def _whole_lines(folder: Path) -> list[dict[str, float]]:
    text = (folder / STATS).read_text()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_killed_and_resumed_ends_with_the_same_weights(settings: Settings, tmp_path: Path) -> None:
    """SIGKILL half-way through 24 steps, then the same command again."""
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    changes = {"steps": 24, "tick": 4}
    here(command(settings, alone, **changes))
    with subprocess.Popen(command(settings, killed, **changes), stdout=subprocess.DEVNULL) as process:
        wait_for_step(killed, 8)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    state = load_checkpoint(killed)
    assert state is not None and 8 <= state["step"] < 24
    here(command(settings, killed, **changes))
    assert_same_weights(alone, killed)
    assert [line["step"] for line in stats(killed)] == [line["step"] for line in stats(alone)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_exits_130(settings: Settings, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        command(settings, folder, steps=100_000, tick=5), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for_step(folder, 5)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    state = load_checkpoint(folder)
    assert state is not None and state["step"] >= 5


def test_broken_photo_among_good_ones_is_counted(settings: Settings, material: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, path in enumerate(sorted((material / "photos").iterdir())):
        (photos / path.name).write_bytes(path.read_bytes() if index else path.read_bytes()[:40])
    assert sum(line["skipped_photos"] for line in stats(run(settings, photos=str(photos), steps=12))) > 0


def test_no_photos(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no picture below"):
        run(settings, photos=str(tmp_path / "nowhere"))


def test_only_broken_photos(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainError, match="unreadable photos"):
        run(settings, photos=str(tmp_path / "photos"))


def test_artwork_too_small_and_artwork_that_is_none(settings: Settings, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(TrainError, match=r"50x40 pixels; expected: at least 64"):
        run(settings, artworks=[str(small)])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(TrainError, match="does not read as a picture"):
        run(settings, artworks=[str(tmp_path / "text.jpg")])


def test_full_disk_keeps_the_last_checkpoint(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(settings, steps=6)
    before = (folder / CHECKPOINT).read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainError, match=r"No space left.*(\n.*)*free some disk space"):
        run(settings, steps=6, run=str(folder.parent / "new"))
    monkeypatch.undo()
    assert (folder / CHECKPOINT).read_bytes() == before
    assert not list((folder.parent / "new").glob(".*.tmp"))
    run(settings, run=str(folder.parent / "new"))  # and the same command goes on afterwards


def test_checkpoint_of_another_generator_or_of_more_processes_is_refused(settings: Settings) -> None:
    folder = run(settings, steps=1)
    with pytest.raises(TrainError, match=r"generator_options.*nano.*small"):
        run(settings, generator_options={"size": "small"})
    state = load_checkpoint(folder)
    assert state is not None and state["world"] == 1
    torch.save(state | {"world": 2}, folder / CHECKPOINT)
    with pytest.raises(TrainError, match=r"1 process\(es\) for .*, a run of 2 at step 1; expected: 2,"):
        run(settings, steps=2)


def test_weights_of_another_generator_are_refused(settings: Settings, tmp_path: Path) -> None:
    folder = run(settings)
    other = run(settings, run=str(tmp_path / "other"), generator_options={"size": "small"})
    (folder / CHECKPOINT).write_bytes((other / CHECKPOINT).read_bytes())
    with pytest.raises(TrainError, match="tensors are not those of this Realtime"):
        run(settings, steps=12)


def test_corrupt_checkpoint_is_named(settings: Settings) -> None:
    folder = run(settings)
    whole = (folder / CHECKPOINT).read_bytes()
    for damaged in (whole[:1000], b"random bytes" * 99, b""):
        (folder / CHECKPOINT).write_bytes(damaged)
        with pytest.raises(TrainError, match="does not read as a checkpoint"):
            run(settings, steps=12)


def test_another_artwork_is_another_run(settings: Settings, tmp_path: Path) -> None:
    run(settings)
    other = tmp_path / "other.png"
    other.write_bytes(Path(settings["artworks"][0]).read_bytes())  # type: ignore[index]
    with pytest.raises(TrainError, match=r"artworks: \['artwork.png'\] in the run, \['other.png'\] now"):
        run(settings, artworks=[str(other)])


def test_another_picture_under_the_name_of_the_artwork_is_another_run(settings: Settings, tmp_path: Path) -> None:
    artwork = tmp_path / "art.png"
    shutil.copy(settings["artworks"][0], artwork)  # type: ignore[index]
    mine = settings | {"artworks": [str(artwork)]}
    run(mine, steps=2)
    cv2.imwrite(str(artwork), 255 - cv2.imread(str(artwork)))
    with pytest.raises(TrainError, match=r"got: art.png, not as .* had it until step 2"):
        run(mine, steps=4)
    shutil.copy(settings["artworks"][0], artwork)  # type: ignore[index]
    assert stats(run(mine, steps=4))[-1]["step"] == 4


def test_no_resume_refuses_a_taken_folder(settings: Settings) -> None:
    folder = run(settings)
    config = config_from_dict(settings | {"run": str(folder)}, "the test")
    with pytest.raises(TrainError, match="holds a run at step 6"):
        train(config, Console(file=io.StringIO()), resume=False)


def test_loss_that_is_not_finite_stops_the_run(settings: Settings) -> None:
    folder = run(settings)
    with pytest.raises(TrainError, match="not finite"):
        run(settings, run=str(folder.parent / "nan"), learning_rate=1e30, steps=30, tick=10)
    assert not (folder.parent / "nan" / CHECKPOINT).exists()


def test_critic_that_is_not_finite_is_not_saved(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss of the step tells, since its turn is the last, and its gradient has no largest norm."""
    turns = CycleGAN.turns

    def breaking(self: CycleGAN, batch: Batch, step: Step) -> Iterator[Turn]:
        yield from turns(self, batch, step)
        with torch.no_grad():
            next(self.critic_b.parameters()).fill_(float("nan") if step.number == 1 else 0.1)

    monkeypatch.setattr(CycleGAN, "turns", breaking)
    tiny = {"recipe": "cyclegan", "generator": "johnson", "generator_options": {"channels": 4, "n_blocks": 1}}
    with pytest.raises(TrainError, match=r"weights of the critic that are not finite at step 2;"):
        run(settings | tiny, steps=2, tick=1)
    state = load_checkpoint(Path(str(settings["run"])))
    assert state is not None and state["step"] == 1


@pytest.mark.parametrize("option", [{"noise": True}, {"dropout": 0.5}, {"norm": "batch"}])
def test_options_that_several_processes_do_not_share(settings: Settings, option: Settings) -> None:
    unet = {"generator": "unet", "generator_options": {"ngf": 4, "norm": "none", "dropout": 0.0} | option}
    with pytest.raises(TrainError, match=f"got: {next(iter(option))}.* of generator unet with several processes"):
        refuse_options_of_one_process(config_from_dict(settings | unet, "the test"))
    refuse_options_of_one_process(config_from_dict(settings, "the test"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory\nframe 0"),
        MemoryError(),
    ],
)
def test_memory_that_is_used_up_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(loop, "set_up", full)
    with pytest.raises(TrainError, match=r"^got: .*memory.*; expected: a step that fits into memory(.|\n)*--batch"):
        run(settings)
    error = RuntimeError("another")
    with pytest.raises(RuntimeError, match="another"):
        run(settings)


def test_device_that_is_not_there(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainError, match="got: device cuda; expected: one that PyTorch can use here: auto"):
        run(settings, accelerator="cuda")
