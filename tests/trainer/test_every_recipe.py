"""From two steps of training to a file that the SDK runs and a plan: recipes whose own tests stop before that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Settings, run

from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.export import export_onnx
from stylesdk import Stylizer
from styletrainer.recipes import RECIPES

SMALL = {"channels": 4, "n_blocks": 1}
LAYERS = {"content_layers": {"relu2_2": 1.0}, "style_layers": {"relu1_2": 1.0, "relu2_2": 0.5}}
TINY: dict[str, Settings] = {
    "cyclegan": {"generator": "johnson", "generator_options": SMALL},
    "johnson": {"generator_options": SMALL, "adversarial_weight": 0.0, "style_octaves": 1, **LAYERS},
    "stylebank": {"generator_options": {"channels": 4}, **LAYERS},
    "unit": {"generator_options": SMALL, "overlap_crops": 6},
}
# test_codes, test_crossdomain_files, test_gramcode, test_retrieval; hybrid's networks in tests/export
ELSEWHERE = {"crossdomain", "gramcode", "paired", "hybrid"}


def test_all_recipes_are_tested() -> None:
    assert TINY.keys() | ELSEWHERE == RECIPES.keys()


@pytest.mark.parametrize("recipe", TINY)
def test_from_training_to_a_frame_and_a_plan(settings: Settings, tmp_path: Path, recipe: str) -> None:
    folder = run(settings | {"recipe": recipe} | TINY[recipe], steps=2, tick=1)
    files = export_onnx(folder, tmp_path, name="it")  # which verifies them against torch
    assert {path.name for path in files} == {"it.onnx", "it.fp16.onnx"}
    frame = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    with Stylizer(tmp_path / "it.onnx", runtime="onnxruntime") as stylizer:
        styled = stylizer.run(frame)
    assert styled.shape == frame.shape and not np.array_equal(styled, frame)
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    size: Any = dict.fromkeys(("min_size", "opt_size", "max_size"), (48, 64))
    made = engine_from_onnx(
        tmp_path / "it.onnx", tmp_path / "it.plan", flavour="tensorrt_rtx", precision="fp16", **size
    )
    assert made.precision == "fp16" and (tmp_path / "it.plan").stat().st_size > 1000
