"""What tests of the page, of windows and of streams need on this machine: `.ci/browser_tools` brings it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require(*programs: str) -> None:
    """Skip the test where a program is missing; fail it under STYLESDK_REQUIRE_BROWSER=1, as CI sets it."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        unavailable(f"needs {' and '.join(missing)}: run `.ci/browser_tools DIR`")


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it under STYLESDK_REQUIRE_BROWSER=1."""
    if os.environ.get("STYLESDK_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
