"""What of a data set can be read and is yet hardly meant: pixels that are all alike, colours mixed at edges."""

from collections.abc import Collection

import numpy as np

BLACK, WHITE, ALIKE = "nearly black", "nearly white", "nearly of one colour"

DARKEST, BRIGHTEST = 32, 223
"""Below the one or above the other lie the pixels of an image that is called black or white; of 0…255."""
SPREAD = 8
"""Of an image of one colour, so few steps of 0…255 hold nearly all pixels of each channel."""
NEARLY_ALL = 0.99

MANY_COLORS = 24
"""So many colours that no class has are looked at for mixtures; fewer are listed one by one."""
RARE = 0.005
"""Share of all pixels that a mixed colour has at most."""
MOST = 2 / 3
"""Share of the pixels of rare unknown colours that mixtures make up before they are called so."""
TOLERANCE = 6.0
"""Distance in RGB between a mixture as it is rounded and compressed and the line between two colours."""
LOOKED_AT = 512


def sameness(histogram: np.ndarray) -> str | None:
    """What an image's pixels have in common, if nearly all are alike.

    Args:
        histogram: [3, 256], how many pixels have each value of red, green and blue.
    """
    needed = NEARLY_ALL * histogram[0].sum()
    if (histogram[:, :DARKEST].sum(1) >= needed).all():
        return BLACK
    if (histogram[:, BRIGHTEST + 1 :].sum(1) >= needed).all():
        return WHITE
    cumulated = np.pad(histogram.cumsum(1), ((0, 0), (1, 0)))
    return ALIKE if ((cumulated[:, SPREAD:] - cumulated[:, :-SPREAD]).max(1) >= needed).all() else None


def mixtures(unknown: dict[int, int], known: Collection[int], pixels: int) -> set[int]:
    """Which unknown colours come from smoothing or compression: rare ones, if most lie between two known colours.

    Args:
        unknown: pixels of each colour, 0xRRGGBB, that no class has.
        known: colours that the description names.
        pixels: of all labels.
    """
    rare = sorted((color for color in unknown if unknown[color] <= RARE * pixels), key=lambda color: -unknown[color])
    if len(rare) < MANY_COLORS or len(known) < 2:
        return set()
    looked_at = rare[:LOOKED_AT]
    weights = np.array([unknown[color] for color in looked_at])
    between = _distance_to_lines(_rgb(looked_at), _rgb(known)) <= TOLERANCE
    return set(rare) if (weights * between).sum() >= MOST * weights.sum() else set()


def _rgb(colors: Collection[int]) -> np.ndarray:
    """float32 [N, 3] from 0xRRGGBB."""
    codes = np.array(list(colors))
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.float32)


def _distance_to_lines(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance of each point [N, 3] to the nearest line between two of the ends [K, 3], [N]."""
    nearest = np.full(len(points), np.inf, np.float32)
    for number, start in enumerate(ends[:-1]):
        lines = ends[number + 1 :] - start  # [L, 3]
        offsets = points - start  # [N, 3]
        along = (offsets @ lines.T / np.maximum((lines**2).sum(1), 1)).clip(0, 1)  # [N, L]
        distances = np.linalg.norm(offsets[:, None] - along[:, :, None] * lines, axis=2)
        nearest = np.minimum(nearest, distances.min(1))
    return nearest
