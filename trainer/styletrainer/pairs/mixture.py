"""The mixed centroid: one vector for two pictures, through a Gaussian mixture of their local descriptors.

The mixture is fitted by EM (Dempster et al. 1977), scikit-learn's, or by the greedy variant of hard assignments
(Lloyd 1982). Descriptors are rows of float64 arrays (N, D); covariances are diagonal.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import kmeans_plusplus
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

Rows = NDArray[np.float64]
_VARIANCE = 1e-6  # the least of a component, in every dimension; scikit-learn adds as much


@dataclass(frozen=True)
class Mixture:
    """``p(x) = sum_k weights[k] N(x; means[k], diag(variances[k]))``: (K,), (K, D), (K, D)."""

    weights: Rows
    means: Rows
    variances: Rows

    def log_joint(self, x: Rows) -> Rows:
        """Joint log p(C_k) + log p(x | C_k): (N, D) -> (N, K)."""
        squares = np.square(x[:, None] - self.means) / self.variances
        densities = -0.5 * (squares + np.log(2 * np.pi * self.variances)).sum(2)
        with np.errstate(divide="ignore"):  # a component of weight 0 takes part in nothing
            return np.asarray(densities + np.log(self.weights))

    def responsibilities(self, x: Rows) -> Rows:
        """p(C_k | x): (N, D) -> (N, K), rows sum to 1. By log-sum-exp: far from all means nothing underflows."""
        joint = self.log_joint(x)
        return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))

    def log_likelihood(self, x: Rows) -> float:
        """Mean log p(x)."""
        return float(logsumexp(self.log_joint(x), axis=1).mean())

    def shares(self, x: Rows) -> Rows:
        """Share of each component in a picture's local descriptors: (N, D) -> (K,), sum 1."""
        return np.asarray(self.responsibilities(x).mean(0))

    def mixed_centroid(self, first: Rows, second: Rows) -> Rows:
        """The fused descriptor (D,) of two pictures, by their ``shares`` (K,).

        ``sum_k a_k p(C_k) mu_k / sum_k a_k p(C_k)``: p(C_k) is the mixture's weight of class k, a_k the share of
        class k in the two pictures, each of which counts half.
        """
        weights = (first + second) / 2 * self.weights
        return np.asarray(weights @ self.means / weights.sum())


def em_mixture(x: Rows, components: int, seed: int) -> Mixture:
    """Fitted by scikit-learn's EM."""
    fitted = GaussianMixture(components, covariance_type="diag", reg_covar=_VARIANCE, max_iter=300, random_state=seed)
    with warnings.catch_warnings():
        # After 300 rounds it may still gain in the last digits. Such a mixture serves as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(x)
    return Mixture(fitted.weights_, fitted.means_, fitted.covariances_)


def greedy_mixture(x: Rows, means: Rows) -> tuple[Mixture, list[float]]:
    """The greedy variant: every descriptor belongs to its nearest mean alone, until none changes its class.

    Returns the mixture and the objective, the mean squared distance to the own mean, before every step. It never
    rises, and as there are finitely many assignments it stops. A class that nothing belongs to keeps its mean.
    """
    assigned, objectives = np.full(len(x), -1), []
    while True:
        distances = np.square(x[:, None] - means).sum(2)
        nearest = distances.argmin(1)
        objectives.append(float(distances.min(1).mean()))
        # Stopped by the objective too: of two means at the same distance rounding may choose in turns.
        if (nearest == assigned).all() or objectives[-1] >= min(objectives[:-1], default=np.inf):
            break
        assigned = nearest
        means = np.stack([x[assigned == k].mean(0) if (assigned == k).any() else m for k, m in enumerate(means)])
    members = [x[assigned == k] for k in range(len(means))]
    variances = [np.square(m - c).mean(0) if len(m) else np.zeros_like(c) for m, c in zip(members, means, strict=True)]
    weights = np.array([len(m) for m in members]) / len(x)
    return Mixture(weights, means, np.stack(variances) + _VARIANCE), objectives


@dataclass(frozen=True)
class Fusion:
    """From local VGG descriptors to fused style descriptors: a projection (PCA), and a mixture behind it."""

    mean: Rows
    directions: Rows  # (D, channels)
    mixture: Mixture

    def project(self, local: Rows) -> Rows:
        """(N, channels) -> (N, D)."""
        return np.asarray((local - self.mean) @ self.directions.T)

    def shares(self, local: Rows) -> Rows:
        """Share of each component in a picture's local descriptors: (N, channels) -> (K,)."""
        return self.mixture.shares(self.project(local))


def fit_fusion(pictures: Sequence[Rows], size: int, components: int, greedy: bool, seed: int) -> Fusion:
    """Fit a projection to ``size`` dimensions and a mixture to the local descriptors of ``pictures``."""
    rows = np.concatenate(pictures)
    pca = PCA(size, random_state=seed).fit(rows)
    x = np.asarray(pca.transform(rows), np.float64)
    if greedy:
        means, _ = kmeans_plusplus(x, components, random_state=seed)
        mixture, _ = greedy_mixture(x, means)
    else:
        mixture = em_mixture(x, components, seed)
    return Fusion(pca.mean_, pca.components_, mixture)
