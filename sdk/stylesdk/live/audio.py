"""The sound of a source video, carried over to the styled one: copied, or encoded again where it must be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

_log = logging.getLogger(__name__)
# What players expect in a container, which is less than what FFmpeg would write. None: anything.
_COPIED: dict[str, frozenset[str] | None] = {
    ".m4v": frozenset({"aac", "ac3", "alac", "eac3", "mp3"}),
    ".mkv": None,
    ".mov": frozenset({"aac", "ac3", "alac", "eac3", "mp3", "pcm_s16le", "pcm_s24le"}),
    ".mp4": frozenset({"aac", "ac3", "alac", "eac3", "mp3", "opus"}),
    ".webm": frozenset({"opus", "vorbis"}),
}


class Sound:
    """Moves the first sound track of ``source`` into ``out``, as far as the picture has come.

    Args:
        source: the video file; opened a second time, beside the reader of its pictures.
        out: an open PyAV output container, no header written yet.
        suffix: of the output, such as ``.mp4``.
    """

    def __init__(self, source: Path, out: av.container.OutputContainer, suffix: str) -> None:
        self._input = av.open(str(source))
        # Both files count from the first moment of the source, wherever its clock starts.
        self.start = Fraction(self._input.start_time or 0, av.time_base)
        self._out = out
        self._ahead: av.Packet | None = None
        self._packets: Iterator[av.Packet] = iter(())
        track = next(iter(self._input.streams.audio), None)
        self._copied = True
        if track is None or track.codec_context is None:  # none, or a kind that FFmpeg cannot decode
            return
        allowed = _COPIED[suffix]
        self._copied = allowed is None or track.codec_context.name.removesuffix("float") in allowed
        if self._copied:
            self._track = out.add_stream_from_template(track)
        else:
            self._track = _encoder(out, track, "libopus" if suffix == ".webm" else "aac")
        self._packets = self._read(track)

    def mux_until(self, end: Fraction | None) -> None:
        """Write the sound up to ``end`` seconds of the new video; None: to its own end."""
        while packet := self._ahead or next(self._packets, None):
            self._ahead = packet
            if end is not None and packet.pts is not None and packet.pts * packet.time_base - self.start >= end:
                return
            self._ahead = None
            if self._copied:
                self._copy(packet)
            else:
                self._encode(packet)

    def finish(self, end: Fraction | None) -> None:
        """``mux_until``, then flush the encoder."""
        self.mux_until(end)
        if not self._copied:
            self._out.mux(self._track.encode(None))

    def close(self) -> None:
        """Close the source."""
        self._input.close()

    def _read(self, track: av.AudioStream) -> Iterator[av.Packet]:
        try:
            yield from self._input.demux(track)
        except av.FFmpegError as error:
            _log.warning("the sound ends early: %s", error)

    def _copy(self, packet: av.Packet) -> None:
        if packet.dts is None:  # the demuxer's empty last packet
            return
        shift = round(self.start / packet.time_base)
        if packet.is_discard and packet.pts + 2 * packet.duration <= shift:
            return  # cut by an edit list; the last one before the start stays, for the decoder to warm up
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = self._track
        self._out.mux(packet)

    def _encode(self, packet: av.Packet) -> None:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            _log.warning("a damaged piece of sound is left out")
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self.start / frame.time_base)
            self._out.mux(self._track.encode(frame))


def _encoder(out: av.container.OutputContainer, track: av.AudioStream, codec: str) -> av.AudioStream:
    context = track.codec_context
    # Raw sound often names no layout; what is neither mono nor 5.1 is mixed to two channels.
    layout = {1: "mono", 6: "5.1"}.get(context.channels, "stereo")
    rate = 48000 if codec == "libopus" else context.sample_rate
    return out.add_stream(codec, rate=rate, layout=layout, bit_rate=80000 * min(context.channels, 2))
