"""What the generator is shown of a batch: each photo, and what a camera would see of it one frame later."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.data.crops import CONTEXT, without_context
from styletrainer.recipe import Step

# Pixels of movement. A few would do against the pixel grid; far ones also move the border away.
_FARTHEST = 48


def generate_views(
    generator: nn.Module, photo: Tensor, style: Tensor | None, step: Step, second: bool
) -> tuple[Tensor, Tensor | None, tuple[int, int], Tensor]:
    """Output for the photo, and for what a camera would see of it one frame later: moved, lit anew, with noise.

    Returns the two outputs, the second None where it is not asked for, the movement (dy, dx) and the change of light,
    RGB (N, 1, H, W).
    """
    # Either way, so that every border lies at times inside what is compared.
    dy, dx = (int(x) for x in torch.randint(1, _FARTHEST + 1, (2,)) * (1 - 2 * torch.randint(2, (2,))))
    draws = [_item_draws(step.item_random(number), photo.shape) for number in range(photo.shape[0])]
    whole, light, noise = (torch.stack(column).to(photo.device) for column in zip(*draws, strict=True))
    # A generator without a margin sees a picture's border as any other place.
    has_border = whole if generator.margin else torch.zeros_like(whole)

    def run(x: Tensor) -> Tensor:
        out = generator(x) if style is None else generator(x, style)
        return without_context(out.float())

    if not second:
        return run(_with_borders(photo, has_border)), None, (dy, dx), without_context(light)
    # The losses see no border: a network that is rewarded at one takes it for a place in the artwork, and paints sky
    # along the top of every picture. What it does there is learned from what it does elsewhere.
    moved = (_moved(photo, dy, dx) + light + noise).clamp(0, 1)
    # One pass over both: batch normalisation shall see them as one batch.
    output, moved_output = run(torch.cat([photo, _with_borders(moved, has_border)])).chunk(2)
    return output, moved_output, (dy, dx), without_context(light)


def _moved(photo: Tensor, dy: int, dx: int) -> Tensor:
    """The photo ``dy`` pixels further down, ``dx`` to the right; what comes into the picture repeats its edge."""
    height, width = photo.shape[2:]
    padded = F.pad(photo, (max(dx, 0), max(-dx, 0), max(dy, 0), max(-dy, 0)), mode="replicate")
    return padded[:, :, max(-dy, 0) :, max(-dx, 0) :][:, :, :height, :width]


def _item_draws(random: torch.Generator, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Whether an item of the batch is seen as a whole picture, its change of light, its sensor noise."""
    whole = torch.rand(1, 1, 1, generator=random) < 0.5
    corners = 0.1 * (torch.rand(1, 1, 2, 2, generator=random) - 0.5)
    light = F.interpolate(corners, size=shape[2:], mode="bilinear", align_corners=True)[0]
    return whole, light, 0.015 * torch.randn(shape[1:], generator=random)


def _with_borders(photo: Tensor, whole: Tensor) -> Tensor:
    """Items that are ``whole`` without their context, edges repeated, as the frame contract shows a frame's border."""
    pictures = F.pad(without_context(photo), (CONTEXT,) * 4, mode="replicate")
    return torch.where(whole, pictures, photo)
