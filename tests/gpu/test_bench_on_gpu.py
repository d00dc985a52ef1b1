"""What ``stylesdk bench`` tells of a real GPU. STYLESDK_REQUIRE_GPU=1 makes a missing one a failure."""

from __future__ import annotations

import os

import pytest

from stylesdk.gpu import cuda_usable
from stylesdk.gpu.nvidia_smi import query_gpu
from stylesdk.latency import machine_card

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> None:
    if reason := cuda_usable():
        if os.environ.get("STYLESDK_REQUIRE_GPU"):
            pytest.fail(f"STYLESDK_REQUIRE_GPU is set, but: {reason}")
        pytest.skip(f"needs a CUDA GPU: {reason}")


def test_nvidia_smi_answers_every_question() -> None:
    """A field that this driver's nvidia-smi does not have makes it refuse the whole query."""
    found = query_gpu()
    assert found is not None, "nvidia-smi is missing, or refuses the query"
    assert "NVIDIA" in str(found["gpu"]) and machine_card()["gpu"] == found["gpu"]
    assert str(found["driver"])[0].isdigit()
    assert isinstance(found["sm_mhz"], float) and found["sm_mhz"] > 0
