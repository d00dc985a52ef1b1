"""The clock of everything live, and the moments at which a camera of a given rate gives its frames.

Times are compared across threads and modules, so all of them are of one clock, ``now``. It is not
``time.monotonic``: before Python 3.13 that moves in steps of 15.6 ms on Windows, a frame time of a fast camera.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

now = time.perf_counter  # seconds


def ticks(fps: float, clock: Callable[[], float] = now, sleep: Callable[[float], None] = time.sleep) -> Iterator[float]:
    """The moments on ``clock``, in seconds, at which a camera of ``fps`` gives its frames; the first is now.

    Waits for each; who comes late gets it at once, with the time at which it was due. ``math.inf`` never waits.
    """
    start = clock()
    for index in count():
        due = start + index / fps
        if (wait := due - clock()) > 0:
            sleep(wait)
        yield due
