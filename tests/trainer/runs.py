"""Training runs of tests, and what they left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from styletrainer.checkpoint import WEIGHTS
from styletrainer.config import config_from_dict
from styletrainer.loop import train
from styletrainer.report import STATS

Settings = dict[str, object]


def run(settings: Settings, **changes: object) -> Path:
    config = config_from_dict(settings | changes, "the test")
    return train(config, Console(file=io.StringIO()))


def stats(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / STATS).read_text().splitlines()]


def assert_same_weights(left: Path, right: Path) -> None:
    ours, theirs = load_file(left / WEIGHTS), load_file(right / WEIGHTS)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
