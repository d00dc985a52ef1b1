"""Do two domains share a latent space? How often the nearest latent of another picture is of the other domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
Latents = NDArray[np.float64]


def latent_overlap(a: Latents, b: Latents, of_a: Sequence[int] = (), of_b: Sequence[int] = ()) -> float:
    """Overlap of two domains' latents, 0-1: twice the error of a nearest-neighbour classifier of the domain.

    ``a`` and ``b``: (N, P, D), N crops of each domain, the latents at P places of each. ``of_a`` and ``of_b``: (N,),
    the number of the picture that each crop is of; () where each is of a picture of its own. A place is compared with
    those of other pictures alone: neighbours in one picture are alike in every latent space, and would make the overlap
    too small. It still comes out too small where a domain has fewer than five pictures: they leave too few others, so
    that every crop counts as a picture.

    This is the two-sample test of Lopez-Paz & Oquab 2017. With many pictures it becomes the integral of 2pq / (p + q)
    over the densities p and q (Cover & Hart 1967; Henze & Penrose 1999): 1 where they are the same, 0 where they do not
    meet. It is taken place by place because the decoder reads its latent so: means over whole pictures part a single
    painting from photos whatever is shared. And by neighbours because a linear classifier sees means alone: behind
    instance normalisation all places together have much the same, of any two encoders.

    Raises:
        ValueError: fewer than five crops, arrays of different shapes, or values that are not finite.
    """
    if a.shape != b.shape or a.ndim != 3 or len(a) < FOLDS:
        raise ValueError(f"got latents {a.shape} and {b.shape}, expected (N, P, D) twice, N at least {FOLDS}")
    crops, places, dimensions = a.shape
    latents = np.concatenate([a, b]).reshape(-1, dimensions)
    pictures_a, pictures_b = (np.asarray(of if len(set(of)) >= FOLDS else range(crops)) for of in (of_a, of_b))
    picture = np.concatenate([pictures_a, pictures_b + pictures_a.max() + 1]).repeat(places)
    domain = np.repeat([0, 1], crops * places)
    nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(1))  # no channel counts for its scale
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(nearest, latents, domain, groups=picture, cv=folds)
    return float(min(2 * np.mean(told != domain), 1.0))
