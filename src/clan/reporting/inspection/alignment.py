"""Alignment of source and target features by class."""

import numpy as np

FEWEST = 10
"""Smallest number of cells that a class centre is computed from."""
COMPONENTS, PERPLEXITY = 50, 30.0
"""Input dimensions and perplexity of t-SNE: the usual values."""


class FeatureSample:
    """Features of one domain: class means over all cells, and a random sample of cells of each class.

    Args:
        num_classes: C.
        points: sample size of each class.
        seed: random seed.

    Attributes:
        cells: number of cells of each class, int64 [C].
    """

    def __init__(self, num_classes: int, points: int, seed: tuple[int, ...]) -> None:
        self.points = points
        self.cells = np.zeros(num_classes, np.int64)
        self._random = np.random.default_rng(seed)
        self._sums: list[np.ndarray | None] = [None] * num_classes
        self._kept: list[tuple[np.ndarray, np.ndarray] | None] = [None] * num_classes

    def add(self, features: np.ndarray, train_ids: np.ndarray) -> None:
        """Adds the cells of an image.

        Args:
            features: float32 [n, K].
            train_ids: uint8 [n]; cells of other values than 0…C−1 are ignored.
        """
        keys = self._random.random(len(train_ids))
        for train_id in range(len(self.cells)):
            own = np.flatnonzero(train_ids == train_id)
            if len(own) == 0:
                continue
            total, kept = features[own].sum(axis=0, dtype=np.float64), self._kept[train_id]
            before = self._sums[train_id]
            self._sums[train_id] = total if before is None else before + total
            self.cells[train_id] += len(own)
            # The cells with the smallest random keys are a uniform sample of a stream of unknown length.
            own = own[np.argsort(keys[own])[: self.points]]
            chosen = keys[own], features[own]
            if kept is not None:
                chosen = np.concatenate([kept[0], chosen[0]]), np.concatenate([kept[1], chosen[1]])
            first = np.argsort(chosen[0])[: self.points]
            self._kept[train_id] = chosen[0][first], chosen[1][first]

    def centre(self, train_id: int) -> np.ndarray | None:
        """Returns the mean of a class's cells, float64 [K], or None for fewer than `FEWEST` cells."""
        total = self._sums[train_id]
        return None if total is None or self.cells[train_id] < FEWEST else total / self.cells[train_id]

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sampled cells, float32 [m, K], and their trainIds, int64 [m], ascending."""
        kept = [(train_id, one[1]) for train_id, one in enumerate(self._kept) if one is not None]
        if not kept:
            return np.empty((0, 0), np.float32), np.empty(0, np.int64)
        classes = np.concatenate([np.full(len(rows), train_id) for train_id, rows in kept])
        return np.concatenate([rows for _, rows in kept]), classes


def centre_distances(source: FeatureSample, target: FeatureSample) -> tuple[np.ndarray, np.ndarray]:
    """Computes the distance between the source and target centres of each class, absolute and relative.

    With μ the mean feature of class c in source s and target t: d_c = ‖μ_c^s − μ_c^t‖ and
    r_c = d_c / mean over k≠c of ‖μ_c^s − μ_k^s‖. r is 0 if the centres coincide, and 1 if a class is as far from itself
    in the other domain as from other classes. It is invariant to scaling, rotation and translation of all features, so
    networks can be compared by it.

    This is not the cluster centre distance of Luo et al. (CVPR 2019, section 4.4), which is computed on a t-SNE map
    without published code; distances on such maps depend on the seed.

    Returns:
        d and r, float64 [C]; NaN for classes with fewer than `FEWEST` cells in a domain.
    """
    number = len(source.cells)
    distance, relative = np.full(number, np.nan), np.full(number, np.nan)
    centres = [source.centre(train_id) for train_id in range(number)]
    for train_id, centre in enumerate(centres):
        other_domain = target.centre(train_id)
        if centre is None or other_domain is None:
            continue
        distance[train_id] = np.linalg.norm(centre - other_domain)
        others = [np.linalg.norm(centre - one) for k, one in enumerate(centres) if k != train_id and one is not None]
        if others and (apart := np.mean(others)) > 0:
            relative[train_id] = distance[train_id] / apart
    return distance, relative


def principal_components(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes a principal component analysis.

    Args:
        points: float [n, K].
        count: number of components, at most min(n, K).

    Returns:
        Coordinates, float64 [n, count], and each component's share of the variance, float64 [count].
    """
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    left, scales, directions = np.linalg.svd(centred, full_matrices=False)
    # Signs are arbitrary: make the largest entry of each direction positive.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    variance = scales**2
    return (left * scales * signs)[:, :count], (variance / max(variance.sum(), np.finfo(float).tiny))[:count]


def tsne(points: np.ndarray, seed: int) -> np.ndarray | None:
    """Computes a t-SNE map (van der Maaten and Hinton, 2008).

    Args:
        points: float [n, K], n ≥ 4.
        seed: random seed.

    Returns:
        float64 [n, 2]; None if scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return None
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    method = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return method.fit_transform(points).astype(np.float64)
