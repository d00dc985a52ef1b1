"""aiortc's VP8 for our purpose: more bits for brush strokes, and no decoding of monsters."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import av
from aiortc import rtcrtpreceiver
from aiortc.codecs import get_decoder, vpx
from aiortc.codecs.base import Decoder
from aiortc.jitterbuffer import JitterFrame

_START, _MOST = 2_500_000, 8_000_000  # bits a second; aiortc's own are for faces over the internet
_BACKLOG = 30  # frames that wait for their decoder at most
_PIXELS = 4096 * 2304  # what is decoded at all: more than any limit of the server, which has words for it


def set_up_vp8() -> None:
    """Make it so, for this process."""
    vpx.DEFAULT_BITRATE, vpx.MAX_BITRATE = _START, _MOST
    rtcrtpreceiver.get_decoder = _decoder
    rtcrtpreceiver.queue = SimpleNamespace(Queue=Backlog)


def _decoder(codec: Any) -> Decoder:
    return _LimitedDecoder(get_decoder(codec))


class Backlog(queue.Queue[Any]):
    """Frames that wait for a decoder's thread: so many, and none once the call ends.

    At the end (None) aiortc waits in the event loop for the thread, and with it for all that is in here.
    """

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As of Queue, but what is too much is left out."""
        if item is None:
            with self.mutex:
                self.queue.clear()
        elif self.qsize() >= _BACKLOG:
            return
        super().put(item, block, timeout)


class _LimitedDecoder(Decoder):  # type: ignore[misc]
    """Leaves out frames of a size that would take gigabytes to decode."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, encoded_frame: JitterFrame) -> list[av.VideoFrame]:
        if monstrous(encoded_frame.data):
            return []
        frames: list[av.VideoFrame] = self._decoder.decode(encoded_frame)
        return frames


def monstrous(data: bytes) -> bool:
    """Whether a VP8 frame announces more than 4096x2304 pixels.

    Only a key frame does (RFC 6386, section 9.1): lowest bit 0, three bytes of tag, a start code, then twice 14
    bits and two of scaling.
    """
    if len(data) < 10 or data[0] & 1:
        return False
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height > _PIXELS
