"""What the user of a window keeps of the show: snapshots and recordings, in the current folder."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from fractions import Fraction
from pathlib import Path

from stylesdk.errors import StyleSDKError
from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.recorder import Recorder
from stylesdk.live.sources import SourceFrame

_PATIENCE = 5.0  # seconds that a snapshot may still take at the end
_SNAPSHOTS = 4  # that may wait for the disk; more would cost memory
_NOTICE = 5.0  # seconds that a path or an error stands on the HUD
_log = logging.getLogger(__name__)


class Keeping:
    """Saves on request, never raises: what went wrong stands in ``lines``, and in the log.

    Args:
        fps: of the source; a hint to the encoder.
        live: whether recorded frames have the times of their capture, else their own.
    """

    def __init__(self, fps: Fraction, *, live: bool) -> None:
        self._fps, self._live = fps, live
        self._recorder: Recorder | None = None
        self._ending = False
        self._notice = ("", 0.0)  # and until when it stands
        self._snapshots: list[threading.Thread] = []
        self._saving = threading.Lock()

    def lines(self, now: float) -> list[str]:
        """For the HUD, at ``now`` of ``clock.now``: what is being recorded, what was just saved or lost."""
        self._look_after()
        notice, until = self._notice
        said = [notice] if now < until else []
        if self._recorder is None:
            return said
        minutes, seconds = divmod(int(self._recorder.seconds), 60)
        return [f"{'saving' if self._ending else 'recording'} {minutes}:{seconds:02d}", *said]

    def put(self, image: Frame, frame: SourceFrame) -> None:
        """Record ``image``, where something is being recorded."""
        if self._recorder is not None and not self._ending:
            self._recorder.put(image, frame)

    def snapshot(self, image: Frame) -> None:
        """Write ``image``, BGR uint8 (H, W, 3), as PNG, in the background. It must not be changed afterwards."""
        self._snapshots = [thread for thread in self._snapshots if thread.is_alive()]
        if len(self._snapshots) >= _SNAPSHOTS:
            self._say("snapshot left out: the disk is slow")
            return
        thread = threading.Thread(target=self._save, args=(image,), name="stylesdk-snapshot", daemon=True)
        self._snapshots.append(thread)
        thread.start()

    def _save(self, image: Frame) -> None:
        from stylesdk.live.sinks import write_image

        with self._saving:  # one after the other: a name is free until its file is there
            path = _free_name(".png")
            try:
                write_image(path, image)
            except StyleSDKError as error:
                self._failed("snapshot", error)
            else:
                self._say(f"saved {path}")

    def record(self) -> None:
        """Begin to record, or end it."""
        if self._recorder is not None:
            self._ending = True
            self._recorder.end()
            return
        self._recorder = Recorder(_free_name(".mp4"), self._fps, live=self._live)

    def close(self) -> None:
        """Finish the snapshots and the recording."""
        for thread in self._snapshots:
            thread.join(_PATIENCE)
        if self._recorder is None:
            return
        self._recorder.end()
        if not self._recorder.wait():
            _log.warning("recording %s hangs, and is left behind", self._recorder.path)
        self._look_after()

    def _look_after(self) -> None:
        recorder = self._recorder
        if recorder is None or not recorder.done:
            return
        self._recorder, self._ending = None, False
        if recorder.error is not None:
            self._failed("recording", recorder.error)
        elif recorder.path.exists():
            self._say(f"saved {recorder.path}")

    def _failed(self, what: str, error: Exception) -> None:
        _log.warning("%s failed: %s", what, error)
        self._say(f"{what} failed: {str(error).splitlines()[0].removeprefix('got: ')}")

    def _say(self, text: str) -> None:
        self._notice = (text, clock.now() + _NOTICE)


def _free_name(suffix: str) -> Path:
    """A file that is not there yet, named by the time."""
    stem = time.strftime("stylesdk-%Y%m%d-%H%M%S")
    names = (Path(f"{stem}{'' if number == 1 else f'-{number}'}{suffix}") for number in itertools.count(1))
    return next(path for path in names if not path.exists())
