"""Do two domains share a latent space? How well a straight cut tells their latents apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


def latent_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Overlap of two samples (N, D) and (M, D), 0-1: twice the error of a linear classifier on what it has not seen.

    1: the classifier guesses, the samples lie in the same place. 0: one hyperplane parts them without an error. It is
    1 - d/2 with d the proxy A-distance of domain adaptation (Ben-David et al. 2007). Chosen over the Frechet distance
    because it has an absolute scale, whatever the scale of the latents; over nearest neighbours (Lopez-Paz & Oquab
    2017) because a decoder's first layer is linear too: it is blind to exactly what the classifier cannot see. The
    classifier is Fisher's with shrunk covariance (Ledoit & Wolf 2004), which has no setting to tune and is sound where
    there are fewer items than dimensions; five folds, the classes weigh the same.

    Raises:
        ValueError: fewer than five of either, or values that are not finite.
    """
    if min(len(a), len(b)) < FOLDS:
        raise ValueError(f"got {len(a)} and {len(b)} latents, expected at least {FOLDS} of each")
    latents, domain = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(make_pipeline(StandardScaler(), classifier), latents, domain, cv=folds)
    error = (np.mean(told[: len(a)] == 1) + np.mean(told[len(a) :] == 0)) / 2
    return float(min(2 * error, 1.0))
