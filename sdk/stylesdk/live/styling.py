"""A style on moving pictures: what the user chose, also by keys while it runs, and how it is put into effect."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stylesdk.frames import Frame
from stylesdk.live.smoothing import Smoother
from stylesdk.live.sources import SourceFrame
from stylesdk.mix import Mix, Weights
from stylesdk.palette import Style
from stylesdk.stylizer import Stylizer

_FADE = 0.5  # seconds from one style to another
_SMOOTHING = 0.5  # what the key switches on where no option said how much
_STEP = 0.1  # of strength and smoothing, a key


# key -> what it changes, and by how much
_STEPS = {
    "+": ("strength", _STEP),
    "=": ("strength", _STEP),  # + without shift, on most keyboards
    "up": ("strength", _STEP),
    "-": ("strength", -_STEP),
    "down": ("strength", -_STEP),
    "]": ("smoothing", _STEP),
    "[": ("smoothing", -_STEP),
}


@dataclass
class Look:
    """What is done to frames: each is styled by what stands here when its turn comes.

    Args:
        strength: 0 = the photo, 1 = the full style.
        keep_color: the styled luma with the photo's chroma.
        smoothing: 0-1, how much still parts are steadied; 0 is off.
        style: name -> weight; None or an empty one is the Stylizer's own. Where that is ``auto``, each still gets
            the style that suits it, and a video the one that suits its first frame.
        styles: what the keys 1-9 choose from.
    """

    strength: float = 1.0
    keep_color: bool = False
    smoothing: float = 0.0
    style: Mix | None = None
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._kept_smoothing = self.smoothing or _SMOOTHING  # what m brings back

    def press(self, key: str) -> bool:
        """Change what ``key`` stands for; False where it stands for nothing.

        1-9 choose a style, c switches ``keep_color``, m ``smoothing``; + and -, ``up`` and ``down`` change
        ``strength``, ] and [ ``smoothing``, each by a tenth.
        """
        if key in _STEPS:
            name, step = _STEPS[key]
            setattr(self, name, round(min(max(getattr(self, name) + step, 0.0), 1.0), 2))
        elif key == "c":
            self.keep_color = not self.keep_color
        elif key == "m":
            kept = self._kept_smoothing
            self._kept_smoothing, self.smoothing = self.smoothing or kept, 0.0 if self.smoothing else kept
        elif key.isdecimal() and 1 <= int(key) <= len(self.styles):
            self.style = {self.styles[int(key) - 1]: 1.0}
        else:
            return False
        return True

    def captions(self) -> list[str]:
        """Lines for the HUD: what is on, where anything is, and the keys."""
        on = [name if weight == 1 else f"{name} {weight:.0%}" for name, weight in (self.style or {}).items()]
        on.append(f"strength {self.strength:.0%}")
        if self.keep_color:
            on.append("photo's colours")
        if self.smoothing:
            on.append(f"smoothing {self.smoothing:.0%}")
        keys = f"1-{min(len(self.styles), 9)} style  " if len(self.styles) > 1 else ""
        return ["  ".join(on), keys + "+ - strength  c colours  m [ ] smoothing"]


class Styling:
    """A Stylizer that follows a Look: styles fade into each other, still parts are steadied."""

    def __init__(self, stylizer: Stylizer, look: Look) -> None:
        self._stylizer, self._look = stylizer, look
        self._wanted: Mix | None = None  # the Look's style, and what the graph takes for it
        self._goal: Weights | None = None
        self._span = 2.0  # from one style to another: sum of the absolute differences in what the graph takes
        self._weights: Weights | None = None  # on its way to the goal
        self._seconds: float | None = None  # time of the frame before
        self._settings: object = None  # what it was styled with
        self._smoother = Smoother()

    def run(self, frame: SourceFrame) -> Frame:
        """``frame`` in style: BGR uint8 (H, W, 3). Raises as ``Stylizer.run`` does.

        A card without a signal comes out as it is, and what follows it begins anew.
        """
        if not frame.signal:
            self._smoother.reset()
            return frame.image
        # Taken once: another thread may change the Look meanwhile.
        strength, keep_color, style = self._look.strength, self._look.keep_color, self._style(frame)
        styled = self._stylizer.run(frame.image, strength, style, keep_color=keep_color)
        settings = (strength, keep_color, None if self._weights is None else self._weights.tobytes())
        # A still, which has a name, shares nothing with the one before.
        if frame.name or settings != self._settings:
            self._smoother.reset()
        self._settings = settings
        return self._smoother.smooth(frame.image, styled, self._look.smoothing)

    def _style(self, frame: SourceFrame) -> Style | None:
        """The style of this frame, on its way to the Look's: by the frames' own time, at once where they have none."""
        stylizer, goal = self._stylizer, self._goal_for(frame)
        if goal is None:
            return None
        before, self._seconds = self._seconds, frame.seconds
        step = math.inf
        if before is not None and self._seconds is not None:
            step = max(self._seconds - before, 0) / _FADE
        self._weights = goal if self._weights is None else _moved(self._weights, goal, step * self._span)
        if stylizer.takes_codes:
            return self._weights
        return dict(zip(stylizer.styles, self._weights.tolist(), strict=True))

    def _goal_for(self, frame: SourceFrame) -> Weights | None:
        """What the graph takes for the Look's style; a video's first frame and every still may choose it."""
        wanted = self._look.style or None
        begins = self._goal is None or bool(frame.name)
        if begins or wanted != self._wanted:
            goal = self._stylizer.style_input(wanted, frame.image)
            if self._stylizer.takes_codes and goal is not None and self._weights is not None:
                self._span = float(np.abs(goal - self._weights).sum())  # codes have any scale
            self._wanted, self._goal = wanted, goal
        return self._goal


def _moved(weights: Weights, goal: Weights, step: float) -> Weights:
    """``weights`` nearer to ``goal`` by ``step``, the sum of what all of them change by."""
    way = float(np.abs(goal - weights).sum())
    return goal if not step < way else weights + np.float32(step / way) * (goal - weights)
