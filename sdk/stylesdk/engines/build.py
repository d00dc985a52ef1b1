"""Builds a plan in a child process, from which only progress, a plan and an exit status come back."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from stylesdk.engines.key import EngineKey
from stylesdk.engines.lock import Cancelled
from stylesdk.errors import DeviceError

Progress = Callable[[str, float], None]  # phase of the build, share of it that is done, 0-1

_LONGEST = 1800.0  # seconds; a builder that takes longer hangs
_POLL = 0.1  # seconds
_GRACE = 2.0  # seconds between asking the child to end and ending it
_TAIL = 2000  # characters of its stderr


def build_plan(model: Path, plan: Path, key: EngineKey, progress: Progress | None, cancelled: threading.Event) -> None:
    """Build ``plan`` and its sidecar, by ``python -m styleexport.build_engine``.

    When this returns or raises, the child is gone. Where it raises, a plan may be there or not, whole but unchecked.

    Raises:
        DeviceError: the child failed, was killed, or took too long; the text ends with what it wrote to stderr.
        Cancelled: ``cancelled`` was set.
    """
    request = {
        "model": str(model),
        "plan": str(plan),
        "sha256": key.onnx_sha256,
        "sizes": [key.size] * 3,
        "flavour": key.flavour,
        "targets": key.targets,
    }
    command = [sys.executable, "-m", "styleexport.build_engine", json.dumps(request)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        status = _run(command, told, progress, cancelled)
        if cancelled.is_set():
            raise Cancelled
        if status:
            told.seek(0)
            raise _failure(model, status, told.read()[-_TAIL:].strip())


def _run(command: list[str], told: IO[str], progress: Progress | None, cancelled: threading.Event) -> int:
    with _started(command, told) as child:
        watch = threading.Thread(target=_end_in_time, args=(child, cancelled), daemon=True)
        watch.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                _report(line, progress)
            return child.wait()
        finally:  # also where ``progress`` raised
            _end(child)
            watch.join()


def _started(command: list[str], told: IO[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # nothing is written there: that it ends tells the child that we are gone
            stdout=subprocess.PIPE,
            stderr=told,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us, and we end the child
        )
    except OSError as error:
        raise DeviceError(
            f"{error}",
            expected=f"{command[0]!r} as the Python to build with",
            do="run stylesdk from a Python of its own",
        ) from error


def _end_in_time(child: subprocess.Popen[str], cancelled: threading.Event) -> None:
    limit = time.monotonic() + _LONGEST
    while child.poll() is None and time.monotonic() < limit:
        if cancelled.wait(_POLL):
            break
    _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _report(line: str, progress: Progress | None) -> None:
    """Lines that are not progress are a library's own words."""
    if progress and line.startswith('{"phase"'):
        told = json.loads(line)
        progress(told["phase"], told["done"])


def _failure(model: Path, status: int, words: str) -> DeviceError:
    how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
    return DeviceError(
        f"the builder of a TensorRT plan of {model} {how}; it said:\n{words or 'nothing'}",
        expected="a plan for this GPU",
        do="mend what it says, or use runtime='onnxruntime', which builds nothing",
    )
