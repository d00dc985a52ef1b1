"""Runs a piece of Python on the pretend CUDA driver, in a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tools() -> Path:
    """The folder that ``.ci/gpu_tools`` made; skips where it is not named."""
    folder = os.environ.get("STYLESDK_GPU_TOOLS")
    if not folder:
        pytest.skip("STYLESDK_GPU_TOOLS is not set: run `.ci/gpu_tools DEST`, then set it to DEST")
    return Path(folder)


def run_on_pretend_gpu(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``code`` must run to its end; its stderr holds the driver's log when FAKECUDA_LOG is set."""
    path = [tools() / "site", Path(__file__).parent, *(ROOT / name for name in ("sdk", "trainer", "export"))]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(tools() / "driver"),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def live(log: str) -> dict[str, int]:
    """What the driver's log says is still allocated."""
    pairs = {
        "device": ("cuMemAlloc_v2", "cuMemFree_v2"),
        "pinned": ("cuMemHostAlloc", "cuMemFreeHost"),
        "streams": ("cuStreamCreate", "cuStreamDestroy_v2"),
        "events": ("cuEventCreate", "cuEventDestroy_v2"),
    }
    return {
        what: log.count(f"[fakecuda] {made} -> 0") - log.count(f"[fakecuda] {freed} -> 0")
        for what, (made, freed) in pairs.items()
    }
