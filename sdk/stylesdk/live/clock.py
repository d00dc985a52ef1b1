"""The moments at which a camera of a given rate gives its frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count


def ticks(
    fps: float, clock: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
) -> Iterator[float]:
    """The moments on ``clock``, in seconds, at which a camera of ``fps`` gives its frames; the first is now.

    Waits for each; who comes late gets it at once, with the time at which it was due. ``math.inf`` never waits.
    """
    start = clock()
    for index in count():
        due = start + index / fps
        if (wait := due - clock()) > 0:
            sleep(wait)
        yield due
