"""Styled frames as a camera that video calls and OBS can choose."""

from __future__ import annotations

import sys
import time

import numpy as np

from stylesdk.errors import MissingExtraError, SinkError
from stylesdk.frames import Frame
from stylesdk.live.clock import now
from stylesdk.live.sinks import letterboxed
from stylesdk.live.sources import Source, SourceFrame

try:
    import pyvirtualcam
except ImportError as error:
    raise MissingExtraError("pyvirtualcam", "vcam", "a virtual camera") from error

_FPS = 30.0  # a hint, for sources that know none
_LONGEST_WAIT = 1.0  # seconds: who stops the run need not wait for a long still picture
_SETUP = {
    "linux": "sudo apt install v4l2loopback-dkms, then sudo modprobe v4l2loopback exclusive_caps=1 card_label=stylesdk",
    "win32": "install OBS Studio (obsproject.com), which brings its virtual camera",
    "darwin": "install OBS Studio (obsproject.com), start its virtual camera once and allow it in System Settings",
}


class VirtualCameraSink:
    """A virtual camera of v4l2loopback (Linux), OBS (Windows, macOS) or Unity Capture (Windows).

    It has the size of the first frame, less an odd last column or row; frames of another size are fitted into it
    with black bars. Frames of a live source go out when they come, those of a video at their own times.

    Args:
        source: what is shown; not stills, as the camera is gone when the run ends.
        device: such as ``/dev/video4`` or ``OBS Virtual Camera``; None takes the first.

    Raises:
        SinkError: the source is stills.
        MissingExtraError: no pyvirtualcam.
    """

    main_thread = False

    def __init__(self, source: Source, device: str | None = None) -> None:
        if source.kind in ("image", "images"):
            raise SinkError(
                f"{source.name}, a still, as output of a virtual camera",
                expected="a camera or a video",
                do="choose another source, or -o window",
            )
        self._device, self._live = device, source.live
        self._fps = float(source.fps) if source.fps else _FPS
        self._camera: pyvirtualcam.Camera | None = None
        self._start = 0.0

    @property
    def name(self) -> str:
        """The camera's own name, once it is open."""
        return f"virtual camera {self._camera.device}" if self._camera else self._device or "virtual camera"

    def write(self, image: Frame, frame: SourceFrame) -> None:
        """Send ``image``, BGR uint8 (H, W, 3), at the time of ``frame`` or, when live, at once.

        Raises:
            SinkError: no virtual camera, it is in use, or it takes no more frames.
        """
        height, width = image.shape[:2]
        camera = self._camera
        if camera is None:
            camera = self._camera = self._open(max(width - width % 2, 2), max(height - height % 2, 2))
            self._start = now() - (frame.seconds or 0.0)
        if not self._live and frame.seconds is not None:
            time.sleep(min(max(self._start + frame.seconds - now(), 0.0), _LONGEST_WAIT))
        if (width - camera.width, height - camera.height) in {(0, 1), (1, 0), (1, 1)}:
            image = image[: camera.height, : camera.width]
        try:
            camera.send(np.ascontiguousarray(letterboxed(image, (camera.width, camera.height))))
        except (RuntimeError, OSError) as error:
            raise SinkError(f"{self.name}: {error}", do="start again; close other programs that write to it") from error

    def _open(self, width: int, height: int) -> pyvirtualcam.Camera:
        try:
            return pyvirtualcam.Camera(width, height, self._fps, fmt=pyvirtualcam.PixelFormat.BGR, device=self._device)
        except RuntimeError as error:
            busy = any(word in str(error).lower() for word in ("busy", "already", "in use", "could not be started"))
            do = "close the program that writes to it, or name another device: vcam:DEVICE"
            raise SinkError(
                f"no virtual camera of {width}x{height}: {error}",
                expected=f"{self._device or 'a virtual camera'}, free to write to",
                do=do if busy else _SETUP.get(sys.platform, _SETUP["linux"]),
            ) from error

    def close(self, *, complete: bool = True) -> None:  # noqa: ARG002
        """Take the camera away."""
        self.abort()

    def abort(self) -> None:
        """Take the camera away."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
