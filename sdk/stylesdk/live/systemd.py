"""Tells systemd how a run goes: READY, WATCHDOG, STOPPING (sd_notify(3)). Elsewhere it does nothing.

With ``Type=notify`` and ``WatchdogSec=`` in its unit, an installation that hangs is restarted.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from types import TracebackType

from stylesdk.live.progress import Counts

_EVERY = 0.5  # seconds between two signs of life


class Service:
    """This process as a service: ready with its first frame, alive while frames are delivered.

    A card that says that the camera is lost is one of them: how long to wait for a camera is ``give_up``'s to say.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._told = -_EVERY

    def frame(self, counts: Counts) -> None:
        """A frame was delivered: the ``on_frame`` of ``run_pipeline``."""
        if counts.delivered == 1:
            self._tell("READY=1")
        now = time.monotonic()
        if now - self._told >= _EVERY:
            self._told = now
            self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        # A service manager that is not there is no reason to stop the show.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pipe:
            pipe.setblocking(False)
            pipe.sendto(text.encode(), self._address)

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tell("STOPPING=1")
