"""How source and target features lie to each other, class by class."""

import numpy as np

FEWEST = 10
"""Cells from which on their mean counts as a class's centre."""
COMPONENTS, PERPLEXITY = 50, 30.0
"""Principal components that t-SNE is given, and how many neighbours it weighs, as is usual."""


class FeatureSample:
    """Features of one domain: the centre of every class, over all cells, and a few random cells of each.

    Args:
        num_classes: C.
        points: cells to keep of each class.
        seed: what decides which.

    Attributes:
        cells: int64 [C], cells seen of each class.
    """

    def __init__(self, num_classes: int, points: int, seed: tuple[int, ...]) -> None:
        self.points = points
        self.cells = np.zeros(num_classes, np.int64)
        self._random = np.random.default_rng(seed)
        self._sums: list[np.ndarray | None] = [None] * num_classes
        self._kept: list[tuple[np.ndarray, np.ndarray] | None] = [None] * num_classes

    def add(self, features: np.ndarray, train_ids: np.ndarray) -> None:
        """Takes in the cells of an image.

        Args:
            features: float32 [n, K].
            train_ids: uint8 [n]; others than 0…C−1 are left out.
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
            # The cells with the smallest keys of all are a uniform sample, whatever number there will be.
            own = own[np.argsort(keys[own])[: self.points]]
            chosen = keys[own], features[own]
            if kept is not None:
                chosen = np.concatenate([kept[0], chosen[0]]), np.concatenate([kept[1], chosen[1]])
            first = np.argsort(chosen[0])[: self.points]
            self._kept[train_id] = chosen[0][first], chosen[1][first]

    def centre(self, train_id: int) -> np.ndarray | None:
        """Mean of a class's cells, float64 [K]; None where they are fewer than `FEWEST`."""
        total = self._sums[train_id]
        return None if total is None or self.cells[train_id] < FEWEST else total / self.cells[train_id]

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """The kept cells, float32 [m, K], and their classes, int64 [m], in order."""
        kept = [(train_id, one[1]) for train_id, one in enumerate(self._kept) if one is not None]
        if not kept:
            return np.empty((0, 0), np.float32), np.empty(0, np.int64)
        classes = np.concatenate([np.full(len(rows), train_id) for train_id, rows in kept])
        return np.concatenate([rows for _, rows in kept]), classes


def centre_distances(source: FeatureSample, target: FeatureSample) -> tuple[np.ndarray, np.ndarray]:
    """The distance between a class's centres in the two domains, as it is and relative to that of other classes.

    With μ the mean feature of class c in the source s or the target t, d_c = ‖μ_c^s − μ_c^t‖, in the features' own
    units, and r_c = d_c / mean over k≠c of ‖μ_c^s − μ_k^s‖: 0 where the domains' centres are one, 1 where a class is
    as far from itself in the other domain as from the other classes in its own. r does not change when all features
    are scaled, turned or shifted together, so that networks can be compared by it.

    It stands for the cluster centre distance of Luo et al. (CVPR 2019, section 4.4), whose code was never published:
    the authors say of it that it is computed on a t-SNE map (issue 26 of their repository). Distances there depend on
    the map's seed and mean little between clusters, so that this is computed on the features themselves, and not said
    to be their number.

    Returns:
        d and r, float64 [C]; NaN for classes with too few cells in either domain.
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
    """Coordinates along the directions of largest variance.

    Args:
        points: [n, K].
        count: directions wanted; there are min(n, K) at most.

    Returns:
        float64 [n, count] and, of each direction, its share of the variance.
    """
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    left, scales, directions = np.linalg.svd(centred, full_matrices=False)
    # Their signs are arbitrary: the largest entry of each direction is to be positive.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    variance = scales**2
    return (left * scales * signs)[:, :count], (variance / max(variance.sum(), np.finfo(float).tiny))[:count]


def tsne(points: np.ndarray, seed: int) -> np.ndarray | None:
    """A map of points that keeps neighbours together (van der Maaten and Hinton, 2008).

    Args:
        points: [n, K], at least 4.
        seed: of the optimisation.

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
