"""What every report holds: the command, the date, the machine; and requirements, met or missed. How a script ends."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from styleexport.errors import ExportError
from stylesdk.errors import StyleSDKError
from stylesdk.latency import machine_card
from styletrainer.errors import TrainError
from styletrainer.run.checkpoint import write_atomically


@dataclass(frozen=True)
class Requirement:
    """A figure and the range that it has to lie in."""

    what: str
    found: float
    at_most: float | None = None
    at_least: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the figure lies in its range."""
        return self.at_least <= self.found and (self.at_most is None or self.found <= self.at_most)

    def __str__(self) -> str:
        limits = [f"at least {self.at_least:.3g}"] if self.at_least else []
        limits += [f"at most {self.at_most:.3g}"] if self.at_most is not None else []
        return f"{'met   ' if self.met else 'missed'} {self.what}: {self.found:.3g}, {', '.join(limits)}"


def run_script(main: Callable[..., object]) -> None:
    """``typer.run``, with errors of ours as three lines instead of a traceback."""
    try:
        typer.run(main)
    except (StyleSDKError, TrainError, ExportError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)


def header() -> dict[str, Any]:
    """Command, date and machine of this measurement."""
    return {
        "command": command_line(sys.argv),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine_card(),
    }


def command_line(words: Sequence[str]) -> str:
    """A command without the folders of the machine that ran it: the last part of every path outside is kept."""
    shown = []
    for word in words:
        key, equals, value = word.rpartition("=")
        outside = Path(value).is_absolute() or value.startswith("..")
        shown.append(key + equals + (Path(value).name if outside else value))
    return shlex.join(["python", "benchmarks/" + Path(shown[0]).name, *shown[1:]])


def earlier_result(path: Path, keys: Sequence[str], same: dict[str, Any]) -> dict[str, Any]:
    """A report that was written before, with these ``keys``, which agrees in ``same`` with this measurement."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"got: {path} ({error}); expected: a result of this benchmark") from error
    if not isinstance(report, dict) or not set(keys) <= report.keys():
        raise typer.BadParameter(f"got: {path}, without {', '.join(keys)}; expected: a result of this benchmark")
    for key, value in same.items():
        if report[key] != value:
            raise typer.BadParameter(f"got: {path}, with other {key}; expected: those of this run")
    return report


def conclude(console: Console, requirements: Sequence[Requirement], report: dict[str, Any], path: Path | None) -> None:
    """Print the requirements, add them to the report, and write it."""
    for requirement in requirements:
        color = "green" if requirement.met else "red"
        # As it is: ":wave:" is a style between colons, not a hand that waves.
        console.print(str(requirement), style=color, highlight=False, markup=False, emoji=False, soft_wrap=True)
    report["requirements"] = [vars(requirement) | {"met": requirement.met} for requirement in requirements]
    if path:
        write_json(path, report)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON in a way that an interruption leaves the file of before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
