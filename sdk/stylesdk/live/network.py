"""Video over the network: live streams, which are watched, and files behind http, which have an end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np

from stylesdk.errors import MissingExtraError, SourceError, SourceLostError
from stylesdk.frames import Frame
from stylesdk.live import clock
from stylesdk.live.sources import Kind, SourceFrame
from stylesdk.live.watchdog import WatchedSource

try:
    import av
except ImportError as error:
    raise MissingExtraError("av", "live", "network streams") from error

_SECONDS = (5.0, 5.0)  # that opening, and one read, may block
_HTTP_SECONDS = (5.0, 15.0)  # segments of HLS are several seconds apart
_JUMP = 1.0  # seconds off its time at which a picture of HLS begins a new time
_DAMAGED = np.empty((0, 0, 3), np.uint8)
# Over UDP one lost packet smears the picture until the next whole one. Not fflags=nobuffer: it throws away what the
# first look has read, and with it the whole picture that the next ones build on; here they are decoded in no time.
_OPTIONS = {"rtsp_transport": "tcp"}
_FIRST_LOOK = {"analyzeduration": "500000"}  # microseconds of a live stream
_NO_VIDEO = re.compile(r"tty|image2.*|.*_pipe")  # text, which FFmpeg opens as terminal art, and single images


def open_stream(url: str, give_up: float) -> WatchedSource | RemoteVideo:
    """The video at ``url``: ``rtsp://``, ``http://``, ``https://``, ``tcp://HOST:PORT`` or ``udp://HOST:PORT``.

    A stream is live, watched, and its newest frame wins. Video behind http that knows how long it is, such as an
    mp4, is a file: every frame, and an end. Messages name neither passwords nor what follows a ``?``.

    Raises:
        SourceError: nobody there, or no video.
    """
    first: _Stream | None = _Stream(url)
    assert first is not None
    if first.finite:
        return RemoteVideo(first)

    def open_device() -> _Stream:
        nonlocal first
        device, first = first or _Stream(url), None
        return device

    return WatchedSource(first.name, "stream", open_device, give_up)


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _why(error: Exception) -> str:
    # Not the error's whole text: that has the password in it.
    return str(getattr(error, "strerror", None) or type(error).__name__)


class _Stream:
    """An open stream or remote file."""

    def __init__(self, url: str) -> None:
        self.name = _shown(url)
        http = url.lower().startswith("http")
        options = _OPTIONS if http else _OPTIONS | _FIRST_LOOK
        do = "check the address, the network, and that a video player opens it"
        try:
            self._container = av.open(url, options=options, timeout=_HTTP_SECONDS if http else _SECONDS)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self.name}: {_why(error)}", expected="a video stream", do=do) from None
        streams = self._container.streams.video
        if not streams or _NO_VIDEO.fullmatch(self._container.format.name):
            self._container.close()
            raise SourceError(f"{self.name}, without a picture track", expected="a video stream", do=do)
        self._stream = streams[0]
        # Threads by slice: threads by frame would each hold a frame back.
        self._stream.thread_type = "SLICE"
        self.finite = http and bool(self._container.duration)
        self._segments = self._container.format.name == "hls"
        self.late = _HTTP_SECONDS[1] if self._segments else None
        self.frames: int | None = self._stream.frames or None
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = Fraction(rate) if rate else None
        context = self._stream.codec_context
        # A stream that was joined before its next whole picture tells no size yet.
        known = (context.height, context.width) if context.width else None
        self.size = known or (480, 640)
        size, rate_text = f"{known[1]}x{known[0]}" if known else "", f"{float(self.fps):g} frames/s" if self.fps else ""
        facts = [size, rate_text, context.name]
        self.description = f"{self.name}: {', '.join(filter(None, facts))}"

    def pictures(self) -> Iterator[av.VideoFrame | None]:
        """Decoded frames, at their own times from the beginning of the file; None for a damaged piece."""
        start = Fraction(self._container.start_time or 0, av.time_base)
        for packet in self._container.demux(self._stream):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                yield None
                continue
            for picture in decoded:
                if picture.pts is not None:
                    picture.pts -= round(start / picture.time_base)
                yield picture

    def _paced(self, pictures: Iterator[av.VideoFrame | None]) -> Iterator[av.VideoFrame | None]:
        """Segments come in bursts: each picture waits for its time. Small delays are caught up, long ones are kept."""
        start: float | None = None
        for picture in pictures:
            if picture is not None and picture.time is not None:
                now = clock.now()
                if start is None or abs(start + picture.time - now) > _JUMP:
                    start = now - picture.time
                time.sleep(max(start + picture.time - now, 0))
            yield picture

    def __iter__(self) -> Iterator[Frame | None]:
        from stylesdk.live.video import bgr_from_video

        try:
            for picture in self._paced(self.pictures()) if self._segments else self.pictures():
                yield _DAMAGED if picture is None else bgr_from_video(picture)
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self.name}: {_why(error)}") from None

    def close(self) -> None:
        self._container.close()


class RemoteVideo:
    """A video file behind http: every frame, upright, with its own time. Its sound stays where it is."""

    kind: Kind = "video"
    live = False
    paths: Sequence[Path] = ()

    def __init__(self, stream: _Stream) -> None:
        # It becomes the name of a file here.
        self.name = re.sub(r"[^\w .-]", "_", PurePosixPath(unquote(urlsplit(stream.name).path)).stem) or "video"
        self.description, self.fps, self.frames = f"the video {stream.description}", stream.fps, stream.frames
        self._stream = stream
        self._started = self._closed = False

    def __iter__(self) -> Iterator[SourceFrame]:
        from stylesdk.live.video import bgr_from_video

        self._started, count = True, 0
        try:
            for picture in self._stream.pictures():
                if self._closed:
                    return
                if picture is not None:
                    count += 1
                    image = bgr_from_video(picture)
                    yield SourceFrame(image, "", picture.pts, picture.time_base, picture.duration or None)
        except (av.FFmpegError, OSError) as error:
            got = f"{self._stream.name}: {_why(error)}, after {count} frames"
            raise SourceLostError(got, do="check the network; or download the file and style that") from None
        finally:
            self._stream.close()
        if not count:
            raise SourceError(f"{self._stream.name}, no readable frame in it", do="check that a player shows it")

    def close(self) -> None:
        """End the iteration, whose thread closes the file: FFmpeg must not lose it in the middle of a read."""
        self._closed = True
        if not self._started:
            self._stream.close()
