"""What ``stylesdk bench`` tells of a real GPU. STYLESDK_REQUIRE_GPU=1 makes a missing one a failure."""

from __future__ import annotations

import pytest

from stylesdk.gpu.nvidia_smi import query_gpu
from stylesdk.latency import machine_card

pytestmark = pytest.mark.gpu


def test_nvidia_smi_answers_every_question() -> None:
    """A field that this driver's nvidia-smi does not have makes it refuse the whole query."""
    found = query_gpu()
    assert found is not None, "nvidia-smi is missing, or refuses the query"
    assert "NVIDIA" in str(found["gpu"]) and machine_card()["gpu"] == found["gpu"]
    assert str(found["driver"])[0].isdigit()
    assert isinstance(found["sm_mhz"], float) and found["sm_mhz"] > 0
