"""The frame contract: wraps a generator into camera bytes in, screen bytes out.

| tensor          | dtype, shape        | meaning                                   |
|-----------------|---------------------|-------------------------------------------|
| frame (in)      | uint8 (1, H, W, 3)  | BGR, 0-255                                |
| strength (in)   | float32 (1,)        | 0 = the photo, 1 = the full style         |
| style (in)      | float32 (S,)        | mixing weights, sum 1; with S > 1 styles  |
|                 | or float32 (C,)     | the code of a style, where it is one      |
| styled (out)    | uint8 (1, H, W, 3)  | BGR, same H and W, whatever they are      |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from styletrainer.generators import with_margin

INPUTS = ("frame", "strength", "style")  # the last one only in files of several styles, or of codes
OUTPUT = "styled"


class FrameContract(nn.Module):
    """uint8 BGR frame, strength, style -> uint8 BGR frame, around a folded generator (BGR 0-255).

    ``code`` is the length of a style's code where the generator takes one; else it mixes ``styles``, and where that is
    1 takes no ``style``.

    The first operation on the frame is a cast and the last one is a cast, with rounding and clamping
    before it: TensorRT accepts nothing else on uint8, and its own float-to-uint8 cast truncates.
    """

    def __init__(self, generator: nn.Module, styles: int = 1, code: int = 0) -> None:
        super().__init__()
        self.generator, self.styles, self.code = generator, styles, code

    @property
    def style_length(self) -> int:
        """Numbers in ``style``; 0 where there is no such input."""
        return self.code or (self.styles if self.styles > 1 else 0)

    def forward(self, frame: Tensor, strength: Tensor, style: Tensor | None = None) -> Tensor:
        photo = frame.to(torch.float32).permute(0, 3, 1, 2)
        styled = with_margin(self.generator, photo, style)
        blend = photo + strength * (styled - photo)
        return blend.clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)
