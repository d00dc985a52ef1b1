"""The words of the wire: frames with their number, and JSON about looks and figures."""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any

from stylesdk.errors import StyleError
from stylesdk.latency import percentiles
from stylesdk.live.styling import Look
from stylesdk.mix import weights_from_style
from stylesdk.web.limits import MALFORMED, NOT_A_FRAME, TOO_BIG, Limits, Refusal, refusal_from

_IN, _OUT = struct.Struct("<I"), struct.Struct("<If")


def split_frame(message: bytes) -> tuple[int, bytes]:
    """A binary message -> frame number and JPEG.

    Raises:
        Refusal: too short to be one.
    """
    if len(message) <= _IN.size:
        raise Refusal(NOT_A_FRAME, f"a message of {len(message)} bytes", "a frame number and a JPEG")
    return _IN.unpack_from(message)[0], message[_IN.size :]


def joined_frame(number: int, milliseconds: float, jpeg: bytes) -> bytes:
    """The answer to a frame: its number, milliseconds from arrival to sending, JPEG."""
    return _OUT.pack(number, milliseconds) + jpeg


def change_look(look: Look, text: str, limits: Limits) -> None:
    """Put ``{"look": {...}}`` into effect: any of style, strength, keep_color and smoothing; all of it or nothing.

    Raises:
        Refusal: no JSON, no such message, or values that a Look cannot have.
    """
    if len(text) > limits.text:
        raise Refusal(TOO_BIG, f"a text of {len(text)} characters", f"{limits.text} at most")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(MALFORMED, "a text that is no JSON", '{"look": {...}}') from None
    wanted = message.get("look") if isinstance(message, dict) else None
    if not isinstance(wanted, dict):
        raise Refusal(MALFORMED, "a message that is no look", '{"look": {...}}')
    for name, value in wanted.items():
        _check(name, value, look.styles)
    for name, value in wanted.items():
        setattr(look, name, value)


def _check(name: str, value: object, styles: tuple[str, ...]) -> None:
    if name in ("strength", "smoothing"):
        good, expected = _number(value, 1), "a number from 0 to 1"
    elif name == "keep_color":
        good, expected = isinstance(value, bool), "true or false"
    elif name == "style":
        good = isinstance(value, dict) and all(_number(weight, 1e6) for weight in value.values())
        expected = '{"NAME": WEIGHT}, with numbers of 0 or more'
    else:
        good, expected = False, "style, strength, keep_color or smoothing"
    if not good:
        raise Refusal(MALFORMED, f"{name[:40]} = {json.dumps(value)[:80]}", expected)
    if isinstance(value, dict) and value:  # an empty one is the Stylizer's own
        try:
            weights_from_style(value, styles)
        except StyleError as error:
            raise refusal_from(error) from None


def _number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def look_message(look: Look) -> str:
    """``{"look": {...}}``, what holds."""
    return json.dumps({"look": look_values(look)})


def look_values(look: Look) -> dict[str, Any]:
    """A Look as JSON has it."""
    style: Mapping[str, float] = look.style or {}
    return {
        "style": dict(style),
        "strength": look.strength,
        "keep_color": look.keep_color,
        "smoothing": look.smoothing,
    }


class Figures:
    """Figures of one client: frames since it was last told, styling times of the last 300 frames, frames dropped.

    Args:
        now: since when frames are counted.
    """

    def __init__(self, now: float) -> None:
        self.dropped = 0
        self._told = now
        self._ages: list[float] = []  # of the frames sent since then, seconds
        self._styling: deque[float] = deque(maxlen=300)

    def styled(self, seconds: float) -> None:
        """Count a frame that took so long to style."""
        self._styling.append(seconds)

    def sent(self, age: float) -> None:
        """Count a frame that goes out ``age`` seconds after it came in."""
        self._ages.append(age)

    def message(self, now: float, backend: str) -> str:
        """``{"figures": {...}}``; times in milliseconds."""
        ages, self._ages = self._ages, []
        seconds, self._told = now - self._told, now
        styling = percentiles(self._styling)
        figures = {
            "fps": round(len(ages) / seconds, 1) if seconds > 0 else 0.0,
            "p50": round(styling.p50, 2),
            "p99": round(styling.p99, 2),
            "age": round(percentiles(ages).p50, 2),
            "dropped": self.dropped,
            "backend": backend,
        }
        return json.dumps({"figures": figures})
