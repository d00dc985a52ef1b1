"""Errors of the trainer: one class for what the user can mend."""

from __future__ import annotations


class TrainError(Exception):
    """Bad input or settings: says what was got, what was expected, what to do."""
