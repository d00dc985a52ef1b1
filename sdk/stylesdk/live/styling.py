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
_BLENDS = {",": -_STEP, ".": _STEP}  # key -> what the second of two styles gains


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
        ``strength``, ] and [ ``smoothing``, each by a tenth. A full stop moves a tenth of the weight to the style
        chosen last, a comma back to the one before; of a mix of two that was given, to its second and its first.
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
            self._choose(self.styles[int(key) - 1])
        elif key in _BLENDS and self.style and len(self.style) == 2:
            self._blend(_BLENDS[key])
        else:
            return False
        return True

    def _choose(self, name: str) -> None:
        """The style before stays with no weight, for the keys that blend."""
        others = {other: weight for other, weight in (self.style or {}).items() if other != name}
        heaviest = max(others, key=others.__getitem__, default=None)
        self.style = {name: 1.0} if heaviest is None else {heaviest: 0.0, name: 1.0}

    def _blend(self, step: float) -> None:
        (first, less), (second, more) = (self.style or {}).items()
        share = round(min(max(more / (less + more) + step, 0.0), 1.0), 2)
        self.style = {first: round(1 - share, 2), second: share}

    def captions(self) -> list[str]:
        """Lines for the HUD: what is on, where anything is, and the keys."""
        mix = (self.style or {}).items()
        on = [name if weight == 1 else f"{name} {weight:.0%}" for name, weight in mix if weight]
        on.append(f"strength {self.strength:.0%}")
        if self.keep_color:
            on.append("photo's colours")
        if self.smoothing:
            on.append(f"smoothing {self.smoothing:.0%}")
        keys = f"1-{min(len(self.styles), 9)} style  , . blend  " if len(self.styles) > 1 else ""
        return ["  ".join(on), keys + "+ - strength  c colours  m [ ] smoothing"]


class Styling:
    """A Stylizer that follows a Look: styles fade into each other, still parts are steadied."""

    def __init__(self, stylizer: Stylizer, look: Look) -> None:
        self._stylizer, self._look = stylizer, look
        self._wanted: Mix | None = None  # the Look's style, and what the graph takes for it
        self._goal: Weights | None = None
        self._span = _span(stylizer)
        self._weights: Weights | None = None  # on its way to the goal
        self._seconds: float | None = None  # time of the frame before
        self._settings: tuple[float, bool, Weights | None] | None = None  # what it was styled with
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
        control = self._control(strength, keep_color)
        if frame.name:  # a still shares nothing with the one before
            self._smoother.reset()
        return self._smoother.smooth(frame.image, styled, self._look.smoothing, control)

    def _control(self, strength: float, keep_color: bool) -> float:
        """How far the settings went since the frame before; 1 is from the photo to the style, or to another style."""
        before, self._settings = self._settings, (strength, keep_color, self._weights)
        if before is None or before[1] != keep_color:
            return 1.0
        way = abs(strength - before[0])
        if self._weights is not None and before[2] is not None:
            way += float(np.abs(self._weights - before[2]).sum()) / self._span
        return way

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
            if goal is not None and self._weights is not None:
                self._span = max(self._span, float(np.abs(goal - self._weights).sum()))
            self._wanted, self._goal = wanted, goal
        return self._goal


def _span(stylizer: Stylizer) -> float:
    """From one style to another: the sum of the absolute differences in what the graph takes."""
    if not stylizer.takes_codes:
        return 2.0
    found = (stylizer.style_input({name: 1.0}) for name in stylizer.styles)
    codes = [code for code in found if code is not None]  # of any scale
    # One style alone has no other to go to: any number that divides.
    return max((float(np.abs(code - codes[0]).sum()) for code in codes), default=0.0) or 1.0


def _moved(weights: Weights, goal: Weights, step: float) -> Weights:
    """``weights`` nearer to ``goal`` by ``step``, the sum of what all of them change by."""
    way = float(np.abs(goal - weights).sum())
    return goal if not step < way else weights + np.float32(step / way) * (goal - weights)
