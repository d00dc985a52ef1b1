"""How many streams one machine keeps up with: a Stylizer and a thread for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

from stylesdk.bench.camera import WARM_UP
from stylesdk.errors import DeviceError
from stylesdk.frames import Frame
from stylesdk.live.clock import ticks
from stylesdk.stylizer import Stylizer

ALLOWED = 0.01  # share of its deadlines that a stream may miss
MOST = 64


@dataclass(frozen=True)
class StreamRun:
    """One try of so many streams: frames a second of each, the worst one's share of missed deadlines."""

    streams: int
    fps: list[float]
    missed: float
    held: bool
    why: str = ""  # not even opened


@dataclass(frozen=True)
class Paced:
    """One stream: frames styled, deadlines missed, seconds that it took."""

    done: int
    missed: int
    seconds: float


def paced(
    work: Callable[[], object],
    frames: int,
    fps: float,
    stop: threading.Event,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Paced:
    """Do ``work`` for each frame of a camera; a deadline is the next frame's coming.

    No frame is left out: who is late must catch up. When more than 1 % of ``frames`` deadlines are missed, that is
    enough: ``stop`` is set, which ends the other streams too.
    """
    done, missed, start = 0, 0, clock()
    for due in islice(ticks(fps, clock, sleep), frames):
        if stop.is_set():
            break
        work()
        done += 1
        missed += clock() > due + 1 / fps
        if missed > ALLOWED * frames:
            stop.set()
    return Paced(done, missed, clock() - start)


def largest_that_holds(holds: Callable[[int], bool], most: int = MOST) -> int:
    """The largest number that ``holds``, by doubling and then halving; 0 where 1 does not, at most ``most``."""
    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, 2 * high
    while high - low > 1 and low < most:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def sustained_streams(
    open_stylizer: Callable[[int], Stylizer], frame: Frame, fps: float, seconds: float = 5.0, most: int = MOST
) -> list[StreamRun]:
    """Try 1, 2, 4, ... streams, each ``seconds`` long, until one misses more than 1 % of its deadlines.

    Args:
        open_stylizer: is given the number of streams, and opens one of them.
        frame: BGR uint8 (H, W, 3); all cameras give theirs in the same moment.
        fps: frames a second of each.
        seconds: of each try.
        most: streams that are tried at most.

    Returns:
        Every try, in order; the largest that held is what the machine keeps up with.
    """
    tries: list[StreamRun] = []

    def holds(streams: int) -> bool:
        tries.append(_tried(open_stylizer, streams, frame, fps, max(round(fps * seconds), 1)))
        return tries[-1].held

    largest_that_holds(holds, most)
    return tries


def _tried(open_stylizer: Callable[[int], Stylizer], streams: int, frame: Frame, fps: float, frames: int) -> StreamRun:
    try:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_stylizer(streams)) for _ in range(streams)]
            for stylizer in opened * WARM_UP:
                stylizer.run(frame)
            found = _together(opened, frame, fps, frames)
    except DeviceError as error:
        if streams == 1:
            raise
        return StreamRun(streams, [], 1.0, held=False, why=str(error))  # out of memory, most likely
    rates = [one.done / max(one.seconds, one.done / fps) for one in found]
    missed = max(one.missed for one in found)
    return StreamRun(streams, rates, missed / frames, held=missed <= ALLOWED * frames)


def _together(opened: list[Stylizer], frame: Frame, fps: float, frames: int) -> list[Paced]:
    """All streams at once, a thread each; the first error of any is raised after all have ended."""
    stop, ready = threading.Event(), threading.Barrier(len(opened))

    def stream(stylizer: Stylizer) -> Paced:
        ready.wait()
        try:
            return paced(lambda: stylizer.run(frame), frames, fps, stop)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(len(opened)) as pool:
        try:
            return list(pool.map(stream, opened))
        finally:
            stop.set()  # a Ctrl-C comes here, and nobody else would tell the threads
