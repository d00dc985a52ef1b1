"""A screen without a monitor: Xvfb, keys by xdotool, and the close button of a window manager."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from installed import require, unavailable


class XServer:
    """One running Xvfb. ``env`` is the environment of programs that draw on it."""

    def __init__(self, display: str) -> None:
        self.display = display
        self.env = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"} | {"DISPLAY": display}

    def xdotool(self, *words: str) -> str:
        done = subprocess.run(
            ["xdotool", *words], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def window(self, title: str) -> str:
        """The id of the window with this title, with the keyboard on it, once it is there."""
        wait_until(lambda: self.xdotool("search", "--onlyvisible", "--name", title) != "", f"window {title}")
        window = self.xdotool("search", "--onlyvisible", "--name", title).splitlines()[-1]
        self.xdotool("windowfocus", "--sync", window)
        return window

    def press(self, *keys: str) -> None:
        for key in keys:
            self.xdotool("key", key)
            time.sleep(0.15)  # one look at the keyboard each

    def picture(self) -> np.ndarray:
        """The screen, BGR uint8 (H, W, 3)."""
        import mss

        with mss.MSS(display=self.display) as grabber:
            return cv2.cvtColor(np.asarray(grabber.grab(grabber.monitors[0])), cv2.COLOR_BGRA2BGR)

    def close_window(self, window: str) -> None:
        """What a window manager's close button does: ask for it (ICCCM 4.2.8.1)."""
        library = ctypes.util.find_library("X11")
        if library is None:
            unavailable("needs libX11")
        x11 = ctypes.CDLL(library)
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        connection = ctypes.c_void_p(x11.XOpenDisplay(self.display.encode()))
        atoms = [x11.XInternAtom(connection, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")]
        # XClientMessageEvent, in an XEvent of 24 longs: type, serial, sent, display, window, what, format, data.
        event = (ctypes.c_long * 24)(33, 0, 1, 0, int(window), atoms[0], 32, atoms[1], 0)
        assert x11.XSendEvent(connection, ctypes.c_ulong(int(window)), 0, ctypes.c_long(0), ctypes.byref(event))
        x11.XFlush(connection)
        x11.XCloseDisplay(connection)


def wait_until(found: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait for something to become true, and fail when it does not."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"{what}: not in {seconds} s"
        time.sleep(0.1)


@contextmanager
def running_x_server() -> Iterator[XServer]:
    require("Xvfb", "xdotool")
    read, write = os.pipe()
    line = ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(line, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        try:
            with os.fdopen(read) as numbers:
                number = numbers.readline().strip()
            assert number, "Xvfb did not start"
            yield XServer(f":{number}")
        finally:
            server.terminate()
