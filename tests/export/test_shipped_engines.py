"""Every shipped model builds into an FP16 plan, by the command that users type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stylesdk import styles
from stylesdk.manifest import manifest_from_json

DYNAMIC = "640x480:1280x720:1920x1080"
# Every file in a range of sizes; one fixed size for one file of each kind.
CASES = [(style.name, DYNAMIC) for style in styles()]
CASES += [(name, "1280x720") for name in ("starry_night", "starry_night.int8", "six")]


@pytest.mark.parametrize(("style", "size"), CASES)
def test_shipped_style_builds(tmp_path: Path, style: str, size: str) -> None:
    precision = "int8" if style.endswith(".int8") else "fp16"
    command = [sys.executable, "-m", "stylesdk.cli", "export", style, "-o", str(tmp_path), "--format", "engine"]
    done = subprocess.run(
        [*command, "--size", size, "--precision", precision], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (plan,) = tmp_path.glob("*.plan")
    manifest = manifest_from_json(plan.with_name(plan.name + ".json").read_text(), "sidecar")
    assert manifest.precision == precision
    assert manifest.opt_size == (720, 1280)
    assert manifest.max_size == ((720, 1280) if ":" not in size else (1080, 1920))
    assert manifest.engine is not None and manifest.engine.flavour == "tensorrt_rtx"
    assert plan.read_bytes()[:4] == b"vtrt"
