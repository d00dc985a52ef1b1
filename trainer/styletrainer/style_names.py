"""What a style may be called: the command line says MODEL:STYLE and A=0.5,B=0.5, and a style names a file."""

from __future__ import annotations

UNSAYABLE = ", = : / \\"


def is_style_name(name: str) -> bool:
    """Whether the command line can say it."""
    return name.isprintable() and not any(sign in name for sign in UNSAYABLE.split())
