"""What ``nvidia-smi`` tells of the GPU: name, driver, memory, clocks. Needed by nobody, told where it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable

# our name -> nvidia-smi's; memory in MiB, clocks in MHz, degrees Celsius, watts
_TEXTS = {"gpu": "name", "driver": "driver_version"}
_NUMBERS = {
    "memory_used_mib": "memory.used",
    "memory_total_mib": "memory.total",
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "celsius": "temperature.gpu",
    "watts": "power.draw",
}
_LONGEST = 20.0  # seconds; it takes a tenth of one, and some where the driver has to be woken


def query_gpu(busy: Callable[[], object] | None = None) -> dict[str, str | float | None] | None:
    """The GPU that CUDA takes first; None where there is no nvidia-smi, or it fails.

    Args:
        busy: called again and again while nvidia-smi looks, so that the clocks are those of work.

    Returns:
        ``gpu``, ``driver``; ``memory_used_mib`` of the whole GPU and ``process_mib`` of this process,
        ``memory_total_mib``, ``sm_mhz``, ``memory_mhz``, ``celsius``, ``watts``; None for what it does not know.
    """
    names = {**_TEXTS, **_NUMBERS}
    rows = _asked(f"--query-gpu={','.join(names.values())}", busy)
    if not rows or len(rows[0]) != len(names):
        return None
    row = dict(zip(names, rows[0], strict=True))
    found: dict[str, str | float | None] = {key: row[key] or None for key in _TEXTS}
    found |= {key: _number(row[key]) for key in _NUMBERS}
    # In a container the process may have another number outside, and then it is not found.
    own = [row for row in _asked("--query-compute-apps=pid,used_memory") if row[0] == str(os.getpid())]
    return found | {"process_mib": _number(own[0][-1]) if own else None}


def _asked(query: str, busy: Callable[[], object] | None = None) -> list[list[str]]:
    """Rows of a query; none where it cannot be asked."""
    program, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or visible in ("", "-1"):
        return []
    command = [program, query, "--format=csv,noheader,nounits"] + (["-i", visible.split(",")[0]] if visible else [])
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                _wait(process, busy)
                text = process.communicate()[0]
            finally:
                process.kill()  # what has ended already is left alone
    except (OSError, subprocess.TimeoutExpired):
        return []
    if process.returncode:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line]


def _wait(process: subprocess.Popen[str], busy: Callable[[], object] | None) -> None:
    end = time.monotonic() + _LONGEST
    while busy is not None and process.poll() is None and time.monotonic() < end:
        busy()
    # A few lines: they fit into the pipe, so the process ends without being read.
    process.wait(max(end - time.monotonic(), 0))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]", "[Not Supported]"
        return None
