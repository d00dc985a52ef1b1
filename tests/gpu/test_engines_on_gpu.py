"""Engine management on a real GPU: STYLESDK_REQUIRE_GPU=1 pytest -m gpu

With STYLESDK_REQUIRE_GPU set, a missing GPU or package fails instead of skipping.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stylesdk import Stylizer
from stylesdk.engines import EngineBackend, why_not
from stylesdk.engines.gate import TOLERANCES
from stylesdk.live.scene import render_frame
from stylesdk.styles import resolve

pytestmark = pytest.mark.gpu
SIZE = (480, 640)


@pytest.fixture(autouse=True)
def plans(gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_not():
        if os.environ.get("STYLESDK_REQUIRE_GPU"):
            pytest.fail(f"STYLESDK_REQUIRE_GPU is set, but: {reason}")
        pytest.skip(f"needs a CUDA GPU and TensorRT, to build and run plans: {reason}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(("style", "precision"), [("starry_night", "fp16"), ("wave.int8", "int8"), ("six", "fp16")])
def test_builds_checks_and_finds_again(style: str, precision: str) -> None:
    frame = render_frame(0, 100, SIZE)
    backend = EngineBackend(resolve(style), required=True)
    with Stylizer(backend=backend) as first:
        before = first.run(frame)
        assert "while TensorRT builds" in first.backend
        assert backend.wait(300)
        after = first.run(frame)
        assert first.backend.startswith("tensorrt")
        manifest = backend.manifest
    assert manifest is not None and manifest.precision == precision
    found, allowed = manifest.quality["accuracy_on_this_gpu"], TOLERANCES[precision]
    assert found["max"] <= allowed.max and found["mean"] <= allowed.mean
    assert float(np.abs(before.astype(int) - after).mean()) <= allowed.mean + 1
    with Stylizer(style, device="cuda", runtime="tensorrt") as second:
        assert np.array_equal(second.run(frame), after)
        assert second.backend.startswith("tensorrt")
