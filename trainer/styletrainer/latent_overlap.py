"""Do two domains share a latent space? How often the nearest latent of another picture is of the other domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


def latent_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Overlap of two domains' latents, 0-1: twice the error of a nearest-neighbour classifier of the domain.

    ``a`` and ``b``: (N, P, D), N pictures of each domain, the latents at P places of each. A place is compared with
    those of other pictures alone: neighbours in one picture are alike in every latent space.

    This is the two-sample test of Lopez-Paz & Oquab 2017. With many pictures it becomes the integral of 2pq / (p + q)
    over the densities p and q (Cover & Hart 1967; Henze & Penrose 1999): 1 where they are the same, 0 where they do not
    meet. It is taken place by place because the decoder reads its latent so: means over whole pictures part a single
    painting from photos whatever is shared. And by neighbours because a linear classifier sees means alone: behind
    instance normalisation all places together have much the same, of any two encoders.

    Raises:
        ValueError: fewer than five pictures, arrays of different shapes, or values that are not finite.
    """
    if a.shape != b.shape or a.ndim != 3 or len(a) < FOLDS:
        raise ValueError(f"got latents {a.shape} and {b.shape}, expected (N, P, D) twice, N at least {FOLDS}")
    pictures, places, dimensions = a.shape
    latents = np.concatenate([a, b]).reshape(-1, dimensions)
    domain, picture = np.repeat([0, 1], pictures * places), np.repeat(np.arange(2 * pictures), places)
    nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(1))  # no channel counts for its scale
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(nearest, latents, domain, groups=picture, cv=folds)
    return float(min(2 * np.mean(told != domain), 1.0))
