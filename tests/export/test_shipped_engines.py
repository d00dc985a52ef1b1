"""Every shipped model builds into a TensorRT plan, in fp16 or int8 as it is, for one size and for a range of sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from styleexport.engine_from_onnx import engine_from_onnx
from styleexport.export import fp16_model
from stylesdk import styles
from stylesdk.manifest import Manifest, manifest_from_json
from stylesdk.styles import resolve

HD = (720, 1280)
SIZES = {"1280x720": (HD, HD, HD), "640x480-1920x1080": ((480, 640), HD, (1080, 1920))}
NAMES = [style.name for style in styles()]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_style_builds(tmp_path: Path, name: str) -> None:
    int8 = name.endswith(".int8")
    model = resolve(name) if int8 else fp16_model(resolve(name), tmp_path, None)
    for label, (least, usual, most) in SIZES.items():
        plan = tmp_path / f"{label}.plan"
        built = engine_from_onnx(model, plan, min_size=least, opt_size=usual, max_size=most, flavour="tensorrt_rtx")
        check(plan, "int8" if int8 else "fp16", most)
        assert built.styles == manifest_of(plan).styles


@pytest.mark.parametrize("name", ["wave.int8", "six"])
def test_by_the_command_that_users_type(tmp_path: Path, name: str) -> None:
    precision = "int8" if name.endswith(".int8") else "fp16"
    command = [sys.executable, "-m", "stylesdk.cli", "export", name, "-o", str(tmp_path), "--format", "engine"]
    command += ["--size", "640x480:1280x720:1920x1080", "--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (plan,) = tmp_path.glob("*.plan")
    check(plan, precision, (1080, 1920))


def manifest_of(plan: Path) -> Manifest:
    return manifest_from_json(plan.with_name(plan.name + ".json").read_text(), "sidecar")


def check(plan: Path, precision: str, most: tuple[int, int]) -> None:
    manifest = manifest_of(plan)
    assert (manifest.precision, manifest.opt_size, manifest.max_size) == (precision, HD, most)
    assert manifest.engine is not None and manifest.engine.flavour == "tensorrt_rtx"
    assert plan.read_bytes()[:4] == b"vtrt"


def test_every_style_comes_in_both_precisions() -> None:
    small = {name.removesuffix(".int8") for name in NAMES if name.endswith(".int8")}
    assert {"starry_night", "the_scream", "composition_vii", "wave", "shipwreck", "udnie"} <= small <= set(NAMES)
