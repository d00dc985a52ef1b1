"""Where a run comes from: the runs before it, and the model file that it was imported from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from styletrainer.config import TrainConfig, config_from_run
from styletrainer.pages.report import read_stats
from styletrainer.run.checkpoint import write_atomically
from styletrainer.run.report import ORIGIN, STATS

LICENCE = "Apache-2.0"  # of weights, unless something else is said


def training_record(run: Path, config: TrainConfig) -> dict[str, Any]:
    """Settings of a run and its last figures; under ``before`` the same of the run that it began with."""
    settings = dataclasses.asdict(config)
    # Where the files lay on the machine that trained is nobody's business.
    for key in ("run", "photos", "vgg", "vgg16", "accelerator", "workers", "tick"):
        settings.pop(key)
    settings["pairs"] = Path(config.pairs).name
    settings["artworks"] = [Path(artwork).name for artwork in config.artworks]
    settings["pictures"] = [Path(folder).name for folder in config.pictures]
    settings["start"] = Path(config.start).name if config.start else None
    ticks = read_stats(run) if (run / STATS).is_file() else []
    settings["result"] = ticks[-1] if ticks else {}
    if origin := origin_of(run):  # what it names as its start lies on another machine
        return settings | ({"before": origin["before"]} if origin["before"] else {})
    before = Path(config.start) if config.start else run
    if before.resolve() != run.resolve() and (before / STATS).is_file():
        settings["before"] = training_record(before, config_from_run(before))
    return settings


def licence_of(run: Path) -> str:
    """The licence of the imported model that a run goes back to, else Apache-2.0."""
    passed: set[Path] = set()
    while (run / "config.json").is_file() and run.resolve() not in passed:
        if origin := origin_of(run):
            return str(origin["licence"])
        passed.add(run.resolve())
        run = Path(config_from_run(run).start or "")
    return LICENCE


def origin_of(run: Path) -> dict[str, Any]:
    """``name`` and ``licence`` of the model that a run was imported from, ``before``: the runs that led to it.

    Empty for a run that was trained.
    """
    path = run / ORIGIN
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def write_origin(run: Path, name: str, licence: str, before: dict[str, Any]) -> None:
    """Write what ``origin_of`` reads."""
    text = json.dumps({"name": name, "licence": licence, "before": before}) + "\n"
    write_atomically(run / ORIGIN, lambda path: path.write_text(text, encoding="utf-8"))
