"""What WebSocket and WebRTC sessions share: the newest of a kind, and tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """A place for one item: a new one replaces one that nobody took."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._there = asyncio.Event()

    def put(self, item: T) -> bool:
        """Lay down ``item``; True when another was lost for it."""
        lost = self._there.is_set()
        self._item = item
        self._there.set()
        return lost

    async def take(self) -> T:
        """Wait for an item and take it away."""
        await self._there.wait()
        self._there.clear()
        item, self._item = self._item, None
        assert item is not None
        return item


async def until_first(*works: Coroutine[Any, Any, None]) -> None:
    """Run ``works`` side by side until one of them ends; the others are cancelled. Its error is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        pending = set(tasks)
        while pending:  # again and again: wait_for loses a cancellation now and then, before Python 3.12
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)
        await asyncio.gather(*tasks, return_exceptions=True)  # their other errors are of no interest
