"""The frame contract: wraps a generator into camera bytes in, screen bytes out.

| tensor          | dtype, shape        | meaning                                   |
|-----------------|---------------------|-------------------------------------------|
| frame (in)      | uint8 (1, H, W, 3)  | BGR, 0-255                                |
| strength (in)   | float32 (1,)        | 0 = the photo, 1 = the full style         |
| style (in)      | float32 (S,)        | mixing weights, sum 1; with S > 1 styles  |
| styled (out)    | uint8 (1, H, W, 3)  | BGR, same H and W, whatever they are      |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from styletrainer.generators import with_margin

INPUTS = ("frame", "strength", "style")  # the last one only in files of several styles
OUTPUT = "styled"


class FrameContract(nn.Module):
    """uint8 BGR frame, strength, style -> uint8 BGR frame, around a folded generator (BGR 0-255).

    The first operation on the frame is a cast and the last one is a cast, with rounding and clamping
    before it: TensorRT accepts nothing else on uint8, and its own float-to-uint8 cast truncates.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    @property
    def styles(self) -> int:
        """How many styles there are to mix; 1 takes no ``style``."""
        return int(getattr(self.generator, "styles", 1))

    def forward(self, frame: Tensor, strength: Tensor, style: Tensor | None = None) -> Tensor:
        photo = frame.to(torch.float32).permute(0, 3, 1, 2)
        styled = with_margin(self.generator, photo, style)
        blend = photo + strength * (styled - photo)
        return blend.clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)
