"""Generators: photo in, stylised photo out.

Every generator maps RGB float (N, 3, H, W), 0-1, to the same shape; H and W are multiples of its
``stride``. ``margin`` is the number of pixels that the caller pads around the picture and crops
afterwards, so that what the zero padding of the convolutions does to the border is never seen.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from styletrainer.generators.crossdomain import CrossDomain
from styletrainer.generators.frame_units import with_margin
from styletrainer.generators.gramcode import GramCode
from styletrainer.generators.johnson import Johnson
from styletrainer.generators.paired import Paired
from styletrainer.generators.realtime import Realtime
from styletrainer.generators.stylebank import StyleBank
from styletrainer.generators.unet import UNet
from styletrainer.generators.unit import Unit

GENERATORS: dict[str, type[nn.Module]] = {
    "realtime": Realtime,
    "unet": UNet,
    "johnson": Johnson,
    "gramcode": GramCode,
    "stylebank": StyleBank,
    "unit": Unit,
    "paired": Paired,
    "crossdomain": CrossDomain,
}


def build_generator(name: str, options: dict[str, Any]) -> nn.Module:
    """Build generator ``name`` with its own keyword ``options`` (see each class)."""
    return GENERATORS[name](**options)


def holds_several_styles(name: str) -> bool:
    """Whether generator ``name`` takes a number of ``styles``."""
    return "styles" in inspect.signature(GENERATORS[name]).parameters


__all__ = [
    "GENERATORS",
    "CrossDomain",
    "GramCode",
    "Johnson",
    "Paired",
    "Realtime",
    "StyleBank",
    "UNet",
    "Unit",
    "build_generator",
    "holds_several_styles",
    "with_margin",
]
