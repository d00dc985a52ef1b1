"""A window to watch a run in, with keys for what can be changed while it runs."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import cv2

from stylesdk.errors import SinkError
from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.hud import draw_hud, run_lines
from stylesdk.live.keeping import Keeping
from stylesdk.live.progress import Counts
from stylesdk.live.sources import Source, SourceFrame
from stylesdk.live.styling import Look
from stylesdk.stylizer import Stylizer

_KEYS = "s snapshot  r record  f full screen  h hide  q quit"
_KEYS_THAT_QUIT = {"q", "\x1b"}
# What waitKeyEx gives for keys without a letter: X11, Windows, macOS.
_NAMED = {
    **dict.fromkeys((0xFF52, 0x260000, 0xF700), "up"),
    **dict.fromkeys((0xFF54, 0x280000, 0xF701), "down"),
    **dict.fromkeys((0xFFAB, 0x6B0000), "+"),  # of the number pad
    **dict.fromkeys((0xFFAD, 0x6D0000), "-"),
}
_FRESH = 0.25  # seconds that the HUD's figures stay: to be read, and as they cost more than drawing them
_ATTEMPTS, _AGAIN = 5, 0.2  # to reach the X server, and seconds between them
_CONNECTIONS: dict[str, int] = {}  # to X servers, by DISPLAY
_FRAMES = 30  # that the frame rate on the HUD looks back on
_FPS = Fraction(30)  # a hint for the encoder, where the source knows none


class StopRequested(Exception):  # noqa: N818 - a wish of the user, not an error
    """The user closed the window, or pressed q or Esc in it."""


class WindowSink:
    """A window with a HUD. Its keys change ``look``, take snapshots and record what is shown, without the HUD.

    Video has its own speed; a still stays until q. What cannot be saved is said on the HUD, and the show goes on.
    ``bare`` begins on the full screen with the HUD hidden: an installation has nobody to press f and h.
    """

    name = "window"
    main_thread = True

    def __init__(self, source: Source, look: Look | None = None, *, bare: bool = False) -> None:
        do = "write to a file with -o, for example -o styled.mp4"
        if sys.platform.startswith("linux") and (reason := _no_screen()):
            raise SinkError(f"no screen ({reason})", expected="an X11 or XWayland desktop", do=do)
        self._title = f"stylesdk: {source.name}"
        try:
            # Plain: Qt's tool bar would take the arrow keys and a strip of the picture.
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise SinkError("an OpenCV that cannot open windows", expected="opencv-python", do=do) from error
        self._live, self._waits = source.live, source.kind == "image"
        self._look = None if self._waits else look  # a still is styled once: no key changes it
        self._keeping = Keeping(source.fps or _FPS, live=source.live)
        self._figures: Callable[[], list[str]] = list
        self._lines: list[str] = []
        self._told = 0.0  # when the figures were taken
        self._hidden = self._full = bare
        self._latest: Frame | None = None
        self._start: float | None = None  # when what has the time 0 is shown
        self._moments: deque[float] = deque(maxlen=_FRAMES)
        self._stop = threading.Event()

    def watch(self, counts: Callable[[], Counts], stylizer: Stylizer, stop: threading.Event) -> None:
        """Show on the HUD how the run goes, and wait for nothing after ``stop``."""
        self._stop = stop
        self._figures = lambda: run_lines(counts(), stylizer.backend)

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Show ``image``, BGR uint8 (H, W, 3).

        Raises:
            StopRequested: the user closed the window, or pressed q or Esc.
        """
        now = clock.now()
        self._moments.append(now)
        height, width = image.shape[:2]
        lines = self._keeping.lines(now) + self._hud(now, f"{width}x{height}")
        if self._start is None:
            self._start = now - (frame.seconds or 0.0)
            cv2.resizeWindow(self._title, width, height)
            if self._full:
                self._show_full()
        cv2.imshow(self._title, draw_hud(image, lines))
        self._latest = image
        self._keeping.put(image, frame)
        due = now
        if not self._live and frame.seconds is not None:
            due = self._start + frame.seconds
        self._poll(due)

    def idle(self) -> None:
        """Look at the keys while no frame comes."""
        self._poll(clock.now())

    def _hud(self, now: float, size: str) -> list[str]:
        if self._hidden:
            return []
        if now - self._told > _FRESH:
            self._told, self._lines = now, self._figures()
        since = now - self._moments[0]
        first = f"{(len(self._moments) - 1) / since:.1f} fps  {size}" if since > 0 else size
        if self._look is None:
            return [f"{first}  q quits"]
        on, keys = self._look.captions()
        return [first, on, *self._lines, keys, _KEYS]

    def _poll(self, until: float) -> None:
        while True:
            left = until - clock.now()
            wait = round(1000 * min(max(left, 0.001), 0.05))  # short, so that keys and the close button count
            key = _key_name(cv2.waitKeyEx(wait))
            if key in _KEYS_THAT_QUIT or self._closed():
                raise StopRequested
            self._press(key)
            if left <= 0.001 or self._stop.is_set():
                return

    def _press(self, key: str) -> None:
        if not self._look or not key or self._look.press(key):
            return
        if key == "s" and self._latest is not None:
            self._keeping.snapshot(self._latest)
        elif key == "r":
            self._keeping.record()
        elif key == "h":
            self._hidden = not self._hidden
        elif key == "f":
            self._full = not self._full
            self._show_full()

    def _show_full(self) -> None:
        mode = cv2.WINDOW_FULLSCREEN if self._full else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, mode)

    def _closed(self) -> bool:
        try:
            # macOS says 0 of a window that is only minimised.
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < (0 if sys.platform == "darwin" else 1)
        except cv2.error:  # Qt, of which nothing is left after its last window
            return True

    def close(self, *, complete: bool = True) -> None:
        """Close the window; a single still waits for the user first."""
        try:
            if complete and self._waits:
                self._poll(float("inf"))
        except StopRequested:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the window and finish what is being recorded."""
        if not self._closed():
            cv2.destroyWindow(self._title)
        self._keeping.close()


def _no_screen() -> str:
    """Why no X11 screen can be had; empty where one can. Asked before Qt is, which ends the process."""
    display = os.environ.get("DISPLAY")
    if not display:
        return "DISPLAY is empty"
    return "" if _answers(display) else f"DISPLAY {display} does not answer, or refuses"


def _answers(display: str) -> bool:
    """Whether the X server does; also where there is no library to ask it with."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True
    x11.XOpenDisplay.restype = ctypes.c_void_p
    for _ in range(_ATTEMPTS):
        # Held for good: a server whose last client leaves, as one without a desktop has, is away for a moment.
        if connection := _CONNECTIONS.get(display) or x11.XOpenDisplay(display.encode()):
            _CONNECTIONS[display] = connection
            return True
        time.sleep(_AGAIN)
    return False


def _key_name(code: int) -> str:
    """What a key is called here: its letter in lower case, ``up``, ``down``, or nothing."""
    if code < 0:
        return ""
    plain = code & 0xFFFF  # without the bits of Num Lock and its like
    if named := _NAMED.get(code) or _NAMED.get(plain):
        return named
    return chr(plain).lower() if 0 < plain < 0x80 else ""
