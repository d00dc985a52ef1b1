"""Fixtures of the live tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stylesdk import Stylizer
from stylesdk.backends.fake import FakeBackend


@pytest.fixture
def stylizer() -> Iterator[Stylizer]:
    with Stylizer(backend=FakeBackend()) as fake:
        yield fake


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
