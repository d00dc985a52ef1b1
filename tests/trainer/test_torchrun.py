"""Several processes: one process' weights with the same global batch, and a run that survives the loss of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import Settings, assert_same_weights, run, small_run, stats
from safetensors.torch import load_file
from torch import nn

from styletrainer.config import config_from_run
from styletrainer.errors import TrainError
from styletrainer.generators import build_generator
from styletrainer.run.checkpoint import WEIGHTS, load_checkpoint
from styletrainer.run.report import STATS
from styletrainer.run.training import _refuse_other_weights

TRAIN = """
import io, json, os, pathlib, sys
from rich.console import Console
from styletrainer.config import config_from_dict
from styletrainer.run.loop import train
config = config_from_dict(json.loads(sys.argv[1]), "the test")
here = pathlib.Path(sys.argv[2])
(here / f"rank{os.environ['RANK']}.{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}").write_text(str(os.getpid()))
train(config, Console(file=io.StringIO()))
"""


def torchrun(settings: Settings, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Two processes with gloo on this machine."""
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(TRAIN)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *options]
    line += [str(script), json.dumps(settings), str(folder)]
    lo = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    # A store of its own for every restart: the shared one still has the addresses of processes that are gone.
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} | ({"GLOO_SOCKET_IFNAME": lo} if lo else {})
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def settings(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A run in fp32 of 20 steps with a global batch of 4."""
    made = small_run(material, tmp_path_factory.mktemp("one"))
    return made | {"steps": 20, "tick": 4, "style_octaves": 1, "look": "bold", "batch": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def two(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("two")
    finish(torchrun(settings | {"run": str(folder / "run")}, folder / "script"))
    return folder / "run"


def test_two_processes_equal_one_with_the_doubled_batch(settings: Settings, two: Path) -> None:
    one = run(settings, batch=4)
    assert_close_networks(one, two)
    left, right = load_checkpoint(one), load_checkpoint(two)
    assert left is not None and right is not None
    assert (left["world"], right["world"]) == (1, 2)
    for term, norm in left["balance"]["norms"][0].items():
        assert right["balance"]["norms"][0][term] == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize(("other", "differ"), [((4, 7), False), ((0, 7), True), ((4, 8), True)])
def test_processes_that_do_not_begin_alike_are_told(other: tuple[int, int], differ: bool) -> None:
    """Two processes, the second of which has no run folder, or another one's weights."""
    weights = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        weights.weight.view(torch.int32).fill_(7)
    fabric = SimpleNamespace(
        world_size=2, device="cpu", all_gather=lambda mine: torch.stack([mine, torch.tensor(other)])
    )
    players = {"generator": SimpleNamespace(module=weights)}
    training: Any = SimpleNamespace(fabric=fabric, step=4, players=players, config=SimpleNamespace(run="runs/a"))
    told = pytest.raises(TrainError, match=r"at the steps 4, \d of runs/a, or with other") if differ else nullcontext()
    with told:
        _refuse_other_weights(training)


def assert_close_networks(one: Path, two: Path) -> None:
    """Weights within 1e-4; one whose gradient is rounding alone, a bias before a normalisation, changes no picture."""
    config = config_from_run(one)
    generator = build_generator(config.generator, config.all_generator_options()).eval()
    ours, theirs = load_file(one / WEIGHTS), load_file(two / WEIGHTS)
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    far = [key for key, value in ours.items() if (theirs[key] - value).abs().max() > 1e-4]
    assert all(key.endswith("bias") for key in far) and len(far) < len(ours) / 3
    with torch.no_grad():
        generator.load_state_dict(ours)
        before = generator(photo)
        generator.load_state_dict(ours | {key: theirs[key] for key in far})
        torch.testing.assert_close(generator(photo), before, rtol=0, atol=1e-5)


def test_training_goes_on_after_a_process_was_killed(settings: Settings, two: Path, tmp_path: Path) -> None:
    """SIGKILL of one of two in mid-run; torchrun starts both again, from the checkpoint, to the same weights."""
    killed = tmp_path / "killed"
    process = torchrun(
        settings | {"run": str(killed)}, tmp_path / "script", "--max-restarts=1", "--monitor-interval=0.1"
    )
    wait_for_step(killed, 8, process)
    os.kill(int((tmp_path / "script" / "rank1.0").read_text()), signal.SIGKILL)
    at = load_checkpoint(killed)
    assert at is not None and at["step"] < 20
    finish(process)
    assert (tmp_path / "script" / "rank1.1").is_file(), "no restart"
    assert_same_weights(two, killed)
    assert [line["step"] for line in stats(killed)] == [line["step"] for line in stats(two)]


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 250
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / STATS).is_file() and f'"step": {step},' in (folder / STATS).read_text():
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"the run did not reach step {step}: {process.communicate()[1]}")
