"""Which encoder makes H.264 here: the hardware's where it really works, else software."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from stylesdk.errors import MissingExtraError, SinkError

try:
    import av
    from av.codec.codec import UnknownCodecError
except ImportError as error:
    raise MissingExtraError("av", "live", "video files") from error

ENCODER_VARIABLE = "STYLESDK_ENCODER"

_log = logging.getLogger(__name__)
_SIZE = (640, 360)  # of the trial: some hardware refuses less than about 150 pixels


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg, the pixel format that it takes, and its settings."""

    name: str
    pixels: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    hardware: bool = False


# Best first. About the quality of libx264's crf 18. Without B-frames (bf) frames are stored as they are shown, and
# mp4 keeps uneven times to the last frame. Windows' own encoder without hw_encoding would be a poor software one.
_H264 = {
    e.name: e
    for e in (
        Encoder("h264_nvenc", "nv12", {"rc": "vbr", "cq": "19", "b": "0", "preset": "p4", "bf": "0"}, hardware=True),
        Encoder("h264_qsv", "nv12", {"global_quality": "20", "preset": "fast", "bf": "0"}, hardware=True),
        Encoder(
            "h264_videotoolbox",
            "nv12",
            {"flags": "+qscale", "global_quality": str(65 * 118), "bf": "0"},  # 118: FFmpeg's units of lambda
            hardware=True,
        ),
        Encoder(
            "h264_mf",
            "nv12",
            {"hw_encoding": "1", "rate_control": "quality", "quality": "80", "bf": "0"},
            hardware=True,
        ),
        Encoder("libx264", options={"crf": "18", "preset": "veryfast", "bf": "0"}),
        # FFmpeg builds without GPL parts have no libx264.
        Encoder("libopenh264", options={"rc_mode": "quality", "b": "8M"}),
        Encoder("mpeg4", options={"flags": "+qscale", "global_quality": str(3 * 118), "bf": "0"}),
    )
}
VP9 = Encoder("libvpx-vp9", options={"crf": "28", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"})


def choose_encoder(name: str | None = None, *, hardware: bool = True) -> Encoder:
    """The encoder called ``name``, or by the environment variable STYLESDK_ENCODER, or the first that works here.

    Each is tried once per process, by encoding a few frames: an FFmpeg that has an encoder says nothing about the
    hardware. Without ``hardware`` only software is tried.

    Raises:
        SinkError: the one that was asked for is unknown or does not work, or none does.
    """
    name = name or os.environ.get(ENCODER_VARIABLE)
    if name and name not in _H264:
        raise SinkError(
            f"encoder {name!r}", expected=", ".join(_H264), do=f"unset {ENCODER_VARIABLE}, or name one of these"
        )
    if name:
        reason = why_not(name)
        if reason:
            raise SinkError(f"encoder {name}, which does not work here: {reason}", do=f"unset {ENCODER_VARIABLE}")
        return _H264[name]
    for encoder in _H264.values():
        if (hardware or not encoder.hardware) and not why_not(encoder.name):
            return encoder
    raise SinkError(
        "an FFmpeg that encodes neither H.264 nor MPEG-4",
        expected=f"one of {', '.join(_H264)}",
        do="use .webm, or python -m pip install --force-reinstall --only-binary av av",
    )


@functools.cache
def why_not(name: str) -> str | None:
    """Why encoder ``name`` cannot be used on this machine; None where it can."""
    reason = _try_to_encode(_H264[name])
    _log.debug("encoder %s %s", name, reason or "works")
    return reason


def _try_to_encode(encoder: Encoder) -> str | None:
    width, height = _SIZE
    try:
        context = av.CodecContext.create(encoder.name, "w")
        context.width, context.height, context.pix_fmt = width, height, encoder.pixels
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = dict(encoder.options)
        packets = []
        for index in range(3):
            picture = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 90, np.uint8), format=encoder.pixels)
            picture.pts, picture.time_base = index, Fraction(1, 25)
            packets += context.encode(picture)
        packets += context.encode(None)
    except UnknownCodecError:
        return "this FFmpeg does not have it"
    except (av.FFmpegError, OSError) as error:
        return str(error)
    return None if sum(p.size > 0 for p in packets) == 3 else "it gave no pictures"
