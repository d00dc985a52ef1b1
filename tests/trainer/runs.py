"""Training runs of tests, and what they left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import torch
from rich.console import Console
from safetensors.torch import load_file

from styletrainer.config import config_from_dict
from styletrainer.run.checkpoint import WEIGHTS
from styletrainer.run.loop import train
from styletrainer.run.report import STATS

Settings = dict[str, object]


def small_run(material: Path, folder: Path) -> Settings:
    """Settings of a run that takes a second or two a dozen steps."""
    return {
        "artworks": [str(material / "artwork.png")],
        "photos": str(material / "photos"),
        "run": str(folder),
        "vgg": [str(material / "vgg.safetensors")],
        "generator_options": {"size": "nano"},
        "precision": "32-true",
        "accelerator": "cpu",
        "batch": 2,
        "crop": 64,
        "artwork_size": 96,
        "critic_channels": 8,
        "critic_strided": 2,
        "style_octaves": 2,
        "workers": 0,
        "steps": 6,
        "tick": 3,
    }


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


def many(settings: Settings, names: str = "ab") -> Settings:
    return settings | {"styles": list(names), "artworks": list(settings["artworks"]) * len(names)}  # type: ignore[call-overload]


def inverted(settings: Settings, folder: Path) -> str:
    """A teacher's pictures: the photos as negatives."""
    folder.mkdir()
    for path in Path(str(settings["photos"])).iterdir():
        cv2.imwrite(str(folder / f"{path.stem}.png"), 255 - cv2.imread(str(path)))
    return str(folder)
