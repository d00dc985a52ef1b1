"""Errors of the export: one class for what the user can mend."""

from __future__ import annotations


class ExportError(Exception):
    """A model that cannot be exported: says what was got, what was expected, what to do."""
