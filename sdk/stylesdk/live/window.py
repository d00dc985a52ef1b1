"""A window to watch a run in, with keys for what can be changed while it runs."""

from __future__ import annotations

import os
import sys
import time

import cv2

from stylesdk.errors import SinkError
from stylesdk.frames import Frame
from stylesdk.live.hud import draw_hud
from stylesdk.live.sources import Source, SourceFrame
from stylesdk.live.styling import Look

_KEYS_THAT_QUIT = {"q", "\x1b"}


class StopRequested(Exception):  # noqa: N818 - a wish of the user, not an error
    """The user closed the window, or pressed q or Esc in it."""


class WindowSink:
    """A window with a small HUD, whose keys change ``look``. Video has its own speed; a still stays until q."""

    name = "window"
    main_thread = True

    def __init__(self, source: Source, look: Look | None = None) -> None:
        do = "write to a file with -o, for example -o styled.mp4"
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if sys.platform.startswith("linux") and not screen:
            # Asked before Qt is: it ends the process when there is no screen.
            raise SinkError("no screen (DISPLAY and WAYLAND_DISPLAY are empty)", expected="a desktop", do=do)
        self._title = f"stylesdk: {source.name}"
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise SinkError("an OpenCV that cannot open windows", expected="opencv-python", do=do) from error
        self._live, self._waits = source.live, source.kind == "image"
        self._look = None if self._waits else look  # a still is styled once: no key changes it
        self._start: float | None = None
        self._last = time.monotonic()
        self._fps = 0.0

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Show ``image``, BGR uint8 (H, W, 3).

        Raises:
            StopRequested: the user closed the window, or pressed q or Esc.
        """
        now = time.monotonic()
        fps, self._last = 1 / max(now - self._last, 1e-6), now
        self._fps = fps if self._start is None else 0.9 * self._fps + 0.1 * fps
        height, width = image.shape[:2]
        lines = [f"{self._fps:.1f} fps  {width}x{height}" if self._start is not None else f"{width}x{height}"]
        lines += self._look.captions() if self._look else []
        lines[-1] += "  q quits"
        if self._start is None:
            self._start = now
            cv2.resizeWindow(self._title, width, height)
        cv2.imshow(self._title, draw_hud(image, lines))
        due = now
        if not self._live and frame.seconds is not None:
            due = self._start + frame.seconds
        self._poll(due)

    def _poll(self, until: float) -> None:
        while True:
            left = until - time.monotonic()
            wait = round(1000 * min(max(left, 0.001), 0.05))  # short, so that keys and the close button count
            code = cv2.waitKey(wait)
            key = chr(code & 0xFF).lower() if code >= 0 else ""
            if key in _KEYS_THAT_QUIT or self._closed():
                raise StopRequested
            if self._look:
                self._look.press(key)
            if left <= 0.001:
                return

    def _closed(self) -> bool:
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1

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
        """Close the window."""
        if not self._closed():
            cv2.destroyWindow(self._title)
