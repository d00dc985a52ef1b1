"""Which style suits a photo: classes of photos by their content, and the style that each class is best served by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """Classes of pictures, by their global descriptors: ``members`` (N,) is the class of each picture described."""

    mean: Rows  # (D,), taken off a descriptor
    scale: Rows  # (D,), and divided by: every channel counts the same
    centroids: Rows  # (K, D), of descriptors in these units
    members: NDArray[np.int64]

    def nearest(self, descriptors: Rows) -> NDArray[np.int64]:
        """Class of each of (N, D) descriptors: that of the nearest centroid."""
        x = (descriptors - self.mean) / self.scale
        return np.asarray(np.square(x[:, None] - self.centroids).sum(2).argmin(1))


def classes_of(descriptors: Rows, count: int) -> Classes:
    """Hierarchical clustering (Ward 1963) of (N, D) descriptors into at most ``count`` classes."""
    mean = descriptors.mean(0)
    scale = descriptors.std(0) + 1e-3 * descriptors.std() + 1e-12
    x = (descriptors - mean) / scale
    count = min(count, len(x))
    members = AgglomerativeClustering(count).fit_predict(x) if count > 1 else np.zeros(len(x), np.int64)
    centroids = np.stack([x[members == k].mean(0) for k in range(count)])
    return Classes(mean, scale, centroids, np.asarray(members, np.int64))


def styles_of_classes(
    members: NDArray[np.int64], picture: Sequence[int], style: Sequence[int], similarity: Sequence[float]
) -> list[int]:
    """The style of each class: whose pairs of the class's pictures have the most similarity, summed.

    ``picture``, ``style``, ``similarity``: of each pair the number of its source among ``members``, and its labels.
    """
    votes = np.zeros((members.max() + 1, max(style) + 1))
    where: Any = (members[list(picture)], list(style))
    np.add.at(votes, where, list(similarity))
    return [int(number) for number in votes.argmax(1)]
