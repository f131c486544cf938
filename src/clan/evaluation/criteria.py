"""Criteria that judge a segmenter without labels of the target: pure functions of arrays, and the table of all.

They are computed from a few statistics per snapshot, so that no criterion needs another pass over the images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clan.evaluation.confusion import confusion_matrix
from clan.evaluation.iou import iou_per_class, mean_iou

Statistics = Mapping[str, np.ndarray]
"""What a pass over the images leaves of a snapshot, by name; see `clan.evaluation.measuring.measure`."""


def pixel_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of class probabilities over that of equal ones, float64 [...], 0…1.

    Args:
        probabilities: floating [..., C], C ≥ 2, 0…1, summing to 1.
    """
    p = np.asarray(probabilities, np.float64)
    return -(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=-1) / np.log(p.shape[-1])


def mutual_information(mean_probability: np.ndarray, mean_entropy: float) -> float:
    """H(mean p) − mean H(p), 0…1: high where each pixel is certain of a class and all classes are used.

    Shi and Sha, "Information-Theoretical Learning of Discriminative Clusters for UDA", ICML 2012.

    Args:
        mean_probability: floating [C], the mean of p over pixels.
        mean_entropy: the mean of `pixel_entropy` over the same pixels.
    """
    return float(pixel_entropy(mean_probability) - mean_entropy)


def agreement(confusion: np.ndarray) -> float:
    """Mean over all classes of the IoU of two label maps, 0…1; symmetric in the two.

    A class that neither has counts 0, so that a network which forgets classes does not agree better for it.

    Args:
        confusion: integers [C, C], pixels by their class in one and the other.
    """
    return float(np.nan_to_num(iou_per_class(confusion)).mean())


def neighbourhood_density(probabilities: np.ndarray, temperature: float = 0.05) -> float:
    """Soft neighbourhood density: the mean entropy of each point's similarities to the others, 0…1.

    High where points lie in dense clusters. Saito et al., "Tune it the Right Way", ICCV 2021, on sampled pixels, and
    divided by the logarithm of the number of neighbours.

    Args:
        probabilities: floating [N, C], N ≥ 3.
        temperature: of the softmax over similarities.
    """
    p = np.asarray(probabilities, np.float32)
    p = p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12)
    similarity = p @ p.T / np.float32(temperature)
    others = similarity[~np.eye(len(p), dtype=bool)].reshape(len(p), len(p) - 1)
    weights = np.exp(others - others.max(axis=1, keepdims=True))
    return float(pixel_entropy(weights / weights.sum(axis=1, keepdims=True, dtype=np.float64)).mean())


def agreement_of_points(points: np.ndarray, reference: np.ndarray) -> float:
    """`agreement` of the most probable classes of the same pixels.

    Args:
        points: [N, C], probabilities up to a factor.
        reference: [N, C], likewise.
    """
    labels, others = (array.argmax(axis=1).astype(np.uint8) for array in (points, reference))
    return agreement(confusion_matrix(others, labels, points.shape[1]))


def rank_correlation(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float:
    """Spearman's correlation of two lists of numbers, −1…1; equal numbers share a rank; NaN if one list is constant."""
    ranks, others = (_ranks(np.asarray(values, np.float64)) for values in (left, right))
    if len(ranks) < 2 or np.ptp(ranks) == 0 or np.ptp(others) == 0:
        return float("nan")
    return float(np.corrcoef(ranks, others)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """The mean rank of each number among all, float64 [n]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


@dataclass(frozen=True)
class Criterion:
    """One way to judge a snapshot.

    Args:
        meaning: what it measures, in a few words.
        higher: whether a higher value is better.
        source: who proposed it.
        of: computes it from a snapshot's statistics; None: it compares snapshots, see `together`.
        needs: the statistics that it reads; where one is missing, the criterion is too.
    """

    meaning: str
    higher: bool
    source: str
    of: Callable[[Statistics], float] | None = None
    needs: tuple[str, ...] = ()


VIEWS = ("flip", "jitter", "scale")
"""Changed images whose predictions are compared with those of the image as it is."""

MOST_NEIGHBOURS = 2000
"""Pixels that `neighbourhood_density` compares with each other: a matrix of 16 MB."""


def _neighbours(statistics: Statistics) -> float:
    points = statistics["points"]
    chosen = np.linspace(0, len(points) - 1, min(len(points), MOST_NEIGHBOURS)).astype(int)
    return neighbourhood_density(points[chosen].astype(np.float32) / 255)


CRITERIA: dict[str, Criterion] = {
    "ensemble": Criterion(
        "agreement with the mean prediction of all snapshots", True, "EnsV: Hu et al., NeurIPS 2024 (Datasets)"
    ),
    "averaged": Criterion(
        "agreement with the mean of all snapshots' weights", True, "after SWA: Izmailov et al., UAI 2018"
    ),
    "teacher": Criterion(
        "agreement with the run's teacher, measured while training",
        True,
        "after the mean teacher: Tarvainen and Valpola, NeurIPS 2017",
        lambda found: agreement(found["teacher"]),
        ("teacher",),
    ),
    "heads": Criterion(
        "agreement of the two heads",
        True,
        "after MCD: Saito et al., CVPR 2018",
        lambda found: agreement(found["heads"]),
        ("heads",),
    ),
    "consistency": Criterion(
        "agreement with predictions for mirrored, recoloured and smaller images",
        True,
        "after French et al., ICLR 2018",
        lambda found: float(np.mean([agreement(found[view]) for view in VIEWS])),
        VIEWS,
    ),
    "snd": Criterion(
        "soft neighbourhood density of class probabilities", True, "Saito et al., ICCV 2021", _neighbours, ("points",)
    ),
    "information": Criterion(
        "entropy of the mean prediction minus mean entropy",
        True,
        "Shi and Sha, ICML 2012",
        lambda found: mutual_information(found["mean_probability"], float(found["entropy"][0])),
        ("mean_probability", "entropy"),
    ),
    "entropy": Criterion(
        "mean entropy of predictions",
        False,
        "Morerio et al., ICLR 2018",
        lambda found: float(found["entropy"][0]),
        ("entropy",),
    ),
    "source": Criterion(
        "mIoU on labelled source images",
        True,
        "the naive baseline",
        lambda found: mean_iou(iou_per_class(found["source"])),
        ("source",),
    ),
}
"""All criteria by name, in the order of tables."""


def alone(statistics: Statistics) -> dict[str, float]:
    """The value of every criterion that a snapshot's own statistics determine, by name; NaN where one is undefined."""
    return {
        name: one.of(statistics)
        for name, one in CRITERIA.items()
        if one.of and all(needed in statistics for needed in one.needs)
    }


def together(points: Sequence[np.ndarray], averaged: np.ndarray | None = None) -> list[dict[str, float]]:
    """The criteria that compare snapshots, for each of them.

    Args:
        points: of every snapshot, uint8 [N, C], probabilities times 255 of the same pixels.
        averaged: those of the mean of the weights.
    """
    if len(points) < 2:
        return [{} for _ in points]
    mean = np.zeros(points[0].shape, np.float32)
    for one in points:
        mean += one
    found = [{"ensemble": agreement_of_points(one, mean)} for one in points]
    if averaged is not None:
        for values, one in zip(found, points, strict=True):
            values["averaged"] = agreement_of_points(one, averaged)
    return found


def goodness(name: str, values: Sequence[float]) -> np.ndarray:
    """Values of a criterion as float64 [n] of which the highest is best; NaN stays."""
    return np.asarray(values, np.float64) * (1 if CRITERIA[name].higher else -1)
