"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The maintainers' material: real photos, artworks, perceptual weights. Not on a user's machine."""
    if not SHARED.is_dir():
        pytest.skip("needs the maintainers' folder ../shared (photos, artworks, VGG weights)")
    return SHARED


@pytest.fixture
def frame() -> np.ndarray:
    """A BGR frame with structure, 120x160."""
    from stylesdk.live.scene import render_frame

    return render_frame(0, 100, (120, 160))
