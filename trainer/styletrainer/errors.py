"""Errors of the trainer: one class for what the user can mend, and how many mistakes at once are told."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 20  # whoever has more problems than that has one cause


class TrainError(Exception):
    """Bad input or settings: says what was got, what was expected, what to do."""


def listed(problems: Sequence[str]) -> str:
    """The first of them, a line each, indented; how many more there are."""
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "".join(f"\n  {problem}" for problem in [*problems[:_SHOWN], *more])
