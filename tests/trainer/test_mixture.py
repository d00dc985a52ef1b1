"""The Gaussian mixture behind the fused code: EM against scikit-learn's, the greedy variant, the mixed centroid."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from styletrainer.pairs.mixture import Mixture, em_mixture, fit_fusion, greedy_mixture

Rows = NDArray[np.float64]


def clouds(seed: int = 0, apart: float = 3.0) -> Rows:
    """Three clouds of 5 dimensions that overlap, of 90, 60 and 30 points."""
    random = np.random.default_rng(seed)
    centres = apart * random.standard_normal((3, 5))
    return np.concatenate([c + random.standard_normal((n, 5)) for c, n in zip(centres, (90, 60, 30), strict=True)])


def start(x: Rows, count: int = 3) -> Mixture:
    means = x[np.random.default_rng(1).choice(len(x), count, replace=False)]
    return Mixture(np.full(count, 1 / count), means, np.ones_like(means))


def em_step(x: Rows, mixture: Mixture) -> Mixture:
    """One step of EM, in our words: the posterior of every row, then the parameters under it (Dempster et al. 1977)."""
    r = mixture.responsibilities(x)
    counts = r.sum(0)[:, None]
    means = r.T @ x / counts
    variances = np.stack([(r[:, k, None] * np.square(x - m)).sum(0) for k, m in enumerate(means)]) / counts
    return Mixture(counts[:, 0] / len(x), means, variances)


def test_log_likelihood_and_responsibilities_equal_scipys_densities() -> None:
    x, mixture = clouds(), em_step(clouds(), start(clouds()))
    densities = np.stack(
        [
            w * multivariate_normal(m, np.diag(v)).pdf(x)
            for w, m, v in zip(mixture.weights, mixture.means, mixture.variances, strict=True)
        ],
        1,
    )
    np.testing.assert_allclose(mixture.responsibilities(x), densities / densities.sum(1, keepdims=True), rtol=1e-10)
    assert mixture.log_likelihood(x) == pytest.approx(np.log(densities.sum(1)).mean(), rel=1e-12)


def test_far_from_every_mean_nothing_underflows() -> None:
    far = np.full((1, 5), 1e4)
    shares = start(clouds()).responsibilities(far)
    assert np.isfinite(shares).all() and shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_em_never_makes_the_log_likelihood_fall_and_equals_scikit_learns(seed: int) -> None:
    x = clouds(seed, apart=1.5)
    first = ours = start(x)
    found = [ours.log_likelihood(x)]
    for _ in range(40):
        ours = em_step(x, ours)
        found.append(ours.log_likelihood(x))
    assert min(np.diff(found)) > -1e-12 and found[-1] > found[0] + 0.1
    theirs = GaussianMixture(
        3, covariance_type="diag", tol=0, reg_covar=0, max_iter=40, weights_init=first.weights,
        means_init=first.means, precisions_init=1 / first.variances,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # forty steps, as ours
        theirs.fit(x)
    np.testing.assert_allclose(ours.means, theirs.means_, atol=1e-6)
    np.testing.assert_allclose(ours.variances, theirs.covariances_, atol=1e-6)
    np.testing.assert_allclose(ours.weights, theirs.weights_, atol=1e-6)
    np.testing.assert_allclose(ours.responsibilities(x), theirs.predict_proba(x), atol=1e-6)


def test_em_mixture_finds_clouds_that_lie_apart() -> None:
    x = clouds(apart=30)
    found = em_mixture(x, 3, seed=0)
    order = np.argsort(-found.weights)
    np.testing.assert_allclose(found.weights[order], [0.5, 1 / 3, 1 / 6], atol=1e-6)
    np.testing.assert_allclose(found.means[order], [x[:90].mean(0), x[90:150].mean(0), x[150:].mean(0)], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_objective_never_rises_and_it_stops_where_lloyds_algorithm_does(seed: int) -> None:
    x = clouds(seed, apart=1.0)
    means = x[[0, 100, 170]]
    found, objectives = greedy_mixture(x, means)
    assert max(np.diff(objectives)) <= 1e-12 and len(objectives) > 2
    theirs = KMeans(3, init=means, n_init=1, tol=0, max_iter=1000, algorithm="lloyd").fit(x)
    np.testing.assert_allclose(found.means, theirs.cluster_centers_, atol=1e-9)
    np.testing.assert_allclose(found.weights, np.bincount(theirs.labels_) / len(x))
    np.testing.assert_allclose(found.variances[0], x[theirs.labels_ == 0].var(0) + 1e-6, atol=1e-12)
    assert objectives[-1] == pytest.approx(theirs.inertia_ / len(x))


def test_greedy_with_a_class_that_is_empty_and_with_equal_points() -> None:
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 4, 0)
    found, objectives = greedy_mixture(x, np.array([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]]))
    np.testing.assert_array_equal(found.means[2], [9, 9])
    np.testing.assert_array_equal(found.weights, [0.5, 0.5, 0])
    assert objectives[-1] == 0
    np.testing.assert_allclose(found.responsibilities(np.array([[9.0, 9.0]]))[0, 2], 0)


def test_mixed_centroid_by_hand() -> None:
    mixture = Mixture(np.array([0.25, 0.75]), np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2)))
    # a = (1 + 0.5) / 2 and (0 + 0.5) / 2; a p = 3/16 and 3/16: halfway between the two means
    np.testing.assert_allclose(mixture.mixed_centroid(np.array([1.0, 0.0]), np.array([0.5, 0.5])), [1, 2])
    one = mixture.mixed_centroid(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(one, mixture.means[0])


@pytest.mark.parametrize("greedy", [False, True])
def test_fused_descriptor_lies_between_two_pictures_and_does_not_know_their_order(greedy: bool) -> None:
    random = np.random.default_rng(3)
    kinds = [centre + random.standard_normal((4, 196, 20)) for centre in (np.zeros(20), np.full(20, 5.0))]
    fusion = fit_fusion([*kinds[0], *kinds[1]], 6, 4, greedy, seed=0)
    a, b = fusion.shares(kinds[0][0]), fusion.shares(kinds[1][0])
    fused, alone, other = (fusion.mixture.mixed_centroid(*both) for both in ((a, b), (a, a), (b, b)))
    np.testing.assert_allclose(fused, fusion.mixture.mixed_centroid(b, a))
    assert np.linalg.norm(alone - other) > 10
    assert np.linalg.norm(fused - alone) < np.linalg.norm(alone - other) > np.linalg.norm(fused - other)
    # and a picture of a kind is by far nearer to its own kind
    again = fusion.shares(kinds[0][1])
    assert np.linalg.norm(fusion.mixture.mixed_centroid(again, again) - alone) < 1
