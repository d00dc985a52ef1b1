"""The frame contract: wraps a generator into camera bytes in, screen bytes out.

| tensor          | dtype, shape        | meaning                                   |
|-----------------|---------------------|-------------------------------------------|
| frame (in)      | uint8 (1, H, W, 3)  | BGR, 0-255                                |
| strength (in)   | float32 (1,)        | 0 = the photo, 1 = the full style         |
| styled (out)    | uint8 (1, H, W, 3)  | BGR, same H and W, whatever they are      |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from styletrainer.generators import with_margin

INPUTS = ("frame", "strength")
OUTPUT = "styled"


class FrameContract(nn.Module):
    """uint8 BGR frame and strength -> uint8 BGR frame, around a folded generator (BGR 0-255).

    The first operation on the frame is a cast and the last one is a cast, with rounding and clamping
    before it: TensorRT accepts nothing else on uint8, and its own float-to-uint8 cast truncates.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, frame: Tensor, strength: Tensor) -> Tensor:
        photo = frame.to(torch.float32).permute(0, 3, 1, 2)
        styled = with_margin(self.generator, photo)
        blend = photo + strength * (styled - photo)
        return blend.clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)
