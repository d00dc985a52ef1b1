"""Records what a window shows, in a thread of its own: no disk and no encoder may stop the show."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from stylesdk.frames import Frame
from stylesdk.live.handover import Handover
from stylesdk.live.sources import SourceFrame

_DEPTH = 8  # frames that may wait for the encoder; more would cost memory, and a slow encoder never catches up
_MICROSECOND = Fraction(1, 1_000_000)
_PATIENCE = 20.0  # seconds to finish a file


class Recorder:
    """A video file that grows while frames come; an encoder that falls behind misses some, the others keep their time.

    What goes wrong, also before the first frame, stands in ``error``.

    Args:
        path: as in VideoSink.
        fps: of the source; a hint to the encoder.
        live: times are those of the capture; else the frames' own.
    """

    def __init__(self, path: Path, fps: Fraction, *, live: bool) -> None:
        self.path = path
        self.error: Exception | None = None
        self._fps, self._live = fps, live
        self._begin: float | None = None
        self._last = 0.0
        self._frames: Handover[tuple[Frame, SourceFrame, float]] = Handover(_DEPTH, newest=True)
        self._thread = threading.Thread(target=self._write, name="stylesdk-record", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """How long the video is."""
        return self._last

    @property
    def done(self) -> bool:
        """Whether the file is finished, or has failed: see ``error``."""
        return not self._thread.is_alive()

    def put(self, image: Frame, frame: SourceFrame) -> None:
        """Record ``image``, BGR uint8 (H, W, 3). It must not be changed afterwards."""
        now = frame.captured if self._live or frame.seconds is None else frame.seconds
        self._begin = now if self._begin is None else self._begin
        self._last = max(now - self._begin, self._last)
        self._frames.put((image, frame, now))

    def end(self) -> None:
        """No more frames come: the file is finished in the background."""
        self._frames.end()

    def wait(self) -> bool:
        """Wait for the end; False where the disk does not come back."""
        self._thread.join(_PATIENCE)
        return self.done

    def _write(self) -> None:
        try:
            self._write_file()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown, and the show goes on
            self.error = error
            self._frames.cancel()

    def _write_file(self) -> None:
        from stylesdk.live.video_sink import VideoSink

        sink, begin = VideoSink(self.path, None, self._fps, keep=True), None
        try:
            for image, frame, now in self._frames.items(threading.Event()):
                begin = now if begin is None else begin  # not what was put first: opening may have taken long
                pts = round((now - begin) / float(_MICROSECOND))
                sink.write(image, replace(frame, pts=pts, time_base=_MICROSECOND, duration=None))
            sink.close()
        finally:
            sink.abort()
