"""What the generator is shown of a batch: each photo, and what a camera would see of it one frame later."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styletrainer.data.crops import CONTEXT, without_context
from styletrainer.recipe import Step

# Pixels of movement. A few would do against the pixel grid; far ones also move the border away.
_FARTHEST = 48

# Standard deviations, of 1: of each colour by itself, and of all of them together by the size of its cells in pixels.
_COLOR_NOISE = 0.005
_GREY_NOISE = {1: 0.008, 2: 0.015, 4: 0.011, 8: 0.007, 16: 0.005}


def generate_views(
    generator: nn.Module, photo: Tensor, style: Tensor | None, step: Step, second: bool, context: int = CONTEXT
) -> tuple[Tensor, Tensor | None, tuple[int, int], Tensor]:
    """Output for the photo, and for what a camera would see of it one frame later: moved, lit anew, with noise.

    ``photo`` has ``context`` more pixels on every side, CONTEXT or more. Returns the two outputs without them, the
    second None where it is not asked for, the movement (dy, dx) and the change of light, RGB (N, 1, H, W).
    """
    # Either way, so that every border lies at times inside what is compared.
    dy, dx = (int(x) for x in torch.randint(1, _FARTHEST + 1, (2,)) * (1 - 2 * torch.randint(2, (2,))))
    # Half the steps show the losses no border. From those that show one alone a network learns to find it, and paints
    # sky along the top of every picture; from those that do not it never learns what to draw there, and gets plain.
    if context > CONTEXT and torch.rand(()) < 0.5:
        photo, context = without_context(photo, context - CONTEXT), CONTEXT
    draws = [_item_draws(step.item_random(number), photo.shape) for number in range(photo.shape[0])]
    whole, light, noise = (torch.stack(column).to(photo.device) for column in zip(*draws, strict=True))
    # A generator without a margin sees a picture's border as any other place.
    has_border = whole if generator.margin else torch.zeros_like(whole)

    def run(x: Tensor, around: int) -> Tensor:
        out = generator(x) if style is None else generator(x, style)
        return without_context(out.float(), around)

    inner_light = without_context(light, context)
    if not second:
        return run(_with_borders(photo, has_border, context), CONTEXT), None, (dy, dx), inner_light
    # The second view needs no more than CONTEXT: what differs then is what a border changes, and that shall be little.
    moved = (_moved(photo, dy, dx) + light + noise).clamp(0, 1)
    return run(photo, context), run(_with_borders(moved, has_border, context), CONTEXT), (dy, dx), inner_light


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
    return whole, light, _camera_noise(random, shape)


def _camera_noise(random: torch.Generator, shape: torch.Size) -> Tensor:
    """Noise (3, H, W) of what a codec leaves of a camera's: nearly grey, and half of it coarser than a pixel.

    White noise trains a network to be steady against what video does not have: measured on clips, the difference of
    two frames has 0.9 of its variance in common between the colours, and falls by a third an octave.
    """
    noise = _COLOR_NOISE * torch.randn(shape[1:], generator=random)
    for cell, strength in _GREY_NOISE.items():
        coarse = torch.randn((1, 1, -(-shape[2] // cell), -(-shape[3] // cell)), generator=random)
        noise = noise + strength * F.interpolate(coarse, size=shape[2:], mode="bilinear")[0]
    return noise


def _with_borders(photo: Tensor, whole: Tensor, context: int) -> Tensor:
    """With CONTEXT alone; items that are ``whole`` have edges repeated there, as the frame contract shows a border."""
    pictures = F.pad(without_context(photo, context), (CONTEXT,) * 4, mode="replicate")
    beyond = context - CONTEXT
    return torch.where(whole, pictures, without_context(photo, beyond) if beyond else photo)
