"""Fixtures of several files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pretend_onnxruntime import OnnxRuntimeGpu

from stylesdk import MissingExtraError
from stylesdk.backends.onnxruntime import _warn


@pytest.fixture
def fresh_warnings() -> Iterator[None]:
    """What is said once a process is said again."""
    _warn.cache_clear()
    yield
    _warn.cache_clear()


@pytest.fixture
def gpu(
    fresh_warnings: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., OnnxRuntimeGpu]:
    """Puts a GPU without pycuda in place, and an onnxruntime-gpu of the behaviour that it is called with."""

    def no_pycuda() -> None:
        raise MissingExtraError("pycuda", "rtx", "a test")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stylesdk.backends.onnxruntime_gpu.cuda_usable", lambda: "")
    monkeypatch.setattr("stylesdk.backends.onnxruntime_sized.open_device", no_pycuda)

    def place(**behaviour: Any) -> OnnxRuntimeGpu:
        module = OnnxRuntimeGpu(**behaviour)
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        return module

    return place
