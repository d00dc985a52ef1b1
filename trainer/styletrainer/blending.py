"""One picture in several styles of a StyleBank run, region by region (Chen et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from styletrainer.config import config_from_run
from styletrainer.data.crops import Picture, rgb_from_tensor, tensor_from_rgb
from styletrainer.errors import TrainError
from styletrainer.generators import StyleBank, build_generator, with_margin
from styletrainer.run.checkpoint import WEIGHTS, load_weights

Mask = NDArray[Any]


@torch.no_grad()
def blended(run: Path | str, photo: Picture, masks: Mapping[str, Mask]) -> Picture:
    """``photo`` with every style of ``masks`` in its region.

    Args:
        run: folder of a run of recipe stylebank with several styles.
        photo: RGB uint8 (H, W, 3), any size.
        masks: by the style's name how much of it each pixel has, (H, W) of any numbers from 0 up; soft edges blend.
            Over styles they are divided by their sum.

    Returns:
        RGB uint8 (H, W, 3).

    Raises:
        TrainError: a run without banks, a style that it does not have, a mask of another size or with numbers below
            zero, a pixel that no mask covers.
    """
    run = Path(run)
    config = config_from_run(run)
    generator = build_generator(config.generator, config.all_generator_options())
    if not isinstance(generator, StyleBank) or not config.styles:
        raise TrainError(
            f"got: {run}, a run of generator {config.generator} and {max(len(config.styles), 1)} style(s); expected: "
            "one of several styles with --recipe stylebank."
        )
    maps = _maps(masks, config.styles, photo.shape[:2])
    load_weights(generator, run / WEIGHTS)
    both = torch.cat([tensor_from_rgb(photo), maps])[None]
    return rgb_from_tensor(with_margin(_ByRegion(generator.eval()), both)[0])


def _maps(masks: Mapping[str, Mask], styles: tuple[str, ...], size: tuple[int, ...]) -> Tensor:
    """Weights of all styles, float (S, H, W), sum 1 at every pixel."""
    problems = [f"style {name}; the run has {', '.join(styles)}" for name in masks if name not in styles]
    for name, mask in masks.items():
        if mask.shape != size:
            problems.append(f"mask {name} of shape {mask.shape}, expected {size}, the photo's height and width")
        elif not (np.isfinite(mask).all() and (mask >= 0).all()):
            problems.append(f"mask {name} with values that are not finite or below 0")
    if problems:
        raise TrainError("got: " + "\n  ".join(problems))
    maps = torch.stack([torch.as_tensor(np.asarray(masks.get(name, np.zeros(size)), np.float32)) for name in styles])
    total = maps.sum(0)
    if bare := int((total == 0).sum()):
        raise TrainError(
            f"got: {bare} of {total.numel()} pixels in no mask; expected: every pixel in one.\n"
            "Do this: give one style a mask of what the others leave."
        )
    return maps / total


class _ByRegion(nn.Module):
    """A bank's ``blend`` as one picture of 3 + S channels, so that photo and maps are padded and cropped alike."""

    def __init__(self, generator: StyleBank) -> None:
        super().__init__()
        self.generator, self.stride, self.margin = generator, generator.stride, generator.margin

    def forward(self, both: Tensor) -> Tensor:
        return self.generator.blend(both[:, :3], both[:, 3:])
