"""From pairs to codes: what conditions the generator, and which style suits which photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from styletrainer.data.crops import tensor_from_rgb
from styletrainer.pairs.dataset import Pair, picture_of_pair
from styletrainer.pairs.descriptors import Descriptor, global_descriptor, local_descriptors
from styletrainer.pairs.mixture import fit_fusion
from styletrainer.pairs.retrieval import Classes, classes_of, styles_of_classes

_FITTED = 128  # pictures that the mixture is fitted to, spread over all: 25 000 local descriptors

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class FusedCodes:
    """Codes of pairs (P, C) and of styles (S, C), float32; classes of photos and the style that suits each."""

    of_pairs: Tensor
    of_styles: Tensor
    classes: Classes
    class_styles: list[int]


def fused_codes(
    descriptor: Descriptor,
    pairs: Sequence[Pair],
    styles: Sequence[str],
    *,
    size: int,
    components: int,
    classes: int,
    greedy: bool,
    seed: int,
) -> FusedCodes:
    """Codes of length ``size`` of ``pairs`` and ``styles``; ``classes`` of their sources.

    A code is the pair's mixed centroid, in units of what the pairs of one style differ by; that of a style the mean
    over its pairs.
    """
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    pictures = list(dict.fromkeys([*sources, *(pair.target for pair in pairs)]))
    described = {path: _described(descriptor, path) for path in pictures[:: -(-len(pictures) // _FITTED)]}
    fusion = fit_fusion([local for local, _ in described.values()], size, components, greedy, seed)
    shares, whole = {}, {}
    for path in pictures:  # one by one: the local descriptors of all would fill the memory
        local, whole[path] = described.pop(path) if path in described else _described(descriptor, path)
        shares[path] = fusion.shares(local)
    centroids = np.stack([fusion.mixture.mixed_centroid(shares[p.source], shares[p.target]) for p in pairs])
    of = np.array([styles.index(pair.style) for pair in pairs])
    codes = _told_apart(centroids, of)
    found = classes_of(np.stack([whole[path] for path in sources]), classes)
    numbers = {path: number for number, path in enumerate(sources)}
    suited = styles_of_classes(
        found.members, [numbers[p.source] for p in pairs], of.tolist(), [p.similarity for p in pairs]
    )
    table = np.stack([codes[of == style].mean(0) for style in range(len(styles))])
    return FusedCodes(torch.from_numpy(codes).float(), torch.from_numpy(table).float(), found, suited)


def _told_apart(centroids: Rows, of: NDArray[np.int64]) -> Rows:
    """Centroids (P, D) of styles ``of`` (P,), around 0, scaled so that within a style every direction varies alike.

    The first step of a discriminant analysis (Fisher 1936): without it the photo decides most of a code, as it does
    of a picture's activations, and the style little.
    """
    x = centroids - centroids.mean(0)
    means = np.stack([x[of == style].mean(0) for style in range(of.max() + 1)])
    within = x - means[of]
    # A twentieth of all variance beside: a direction in which one style's few pairs happen to agree is no measure.
    values, directions = np.linalg.eigh(within.T @ within / len(x) + 0.05 * x.var() * np.eye(x.shape[1]))
    scale = 1 / np.sqrt(np.maximum(values, 1e-12))
    return np.asarray(x @ (directions * scale) @ directions.T)


@torch.no_grad()
def _described(descriptor: Descriptor, path: Path) -> tuple[Rows, Rows]:
    """Local descriptors (196, 256) and the global one (512,) of a picture."""
    activations = descriptor.activations(tensor_from_rgb(picture_of_pair(path))[None])
    return local_descriptors(activations)[0].double().numpy(), global_descriptor(activations)[0].double().numpy()
