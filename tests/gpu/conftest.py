"""Every test here needs a GPU: STYLESDK_REQUIRE_GPU=1 pytest -m gpu

With STYLESDK_REQUIRE_GPU set, a missing GPU fails instead of skipping, so that a job of skips cannot look green.
"""

from __future__ import annotations

import os

import pytest

from stylesdk.gpu import cuda_usable


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Skips, or fails where a GPU is required."""
    if reason := cuda_usable():
        if os.environ.get("STYLESDK_REQUIRE_GPU"):
            pytest.fail(f"STYLESDK_REQUIRE_GPU is set, but: {reason}")
        pytest.skip(f"needs a CUDA GPU: {reason}")
