"""What of a data set can be read and is yet hardly meant: pixels that are all alike, colours mixed at edges."""

from collections.abc import Collection

import numpy as np

BLACK, WHITE, ALIKE = "nearly black", "nearly white", "nearly of one colour"
SUSPICIOUS = frozenset({BLACK, WHITE, ALIKE})

DARKEST, BRIGHTEST = 32, 223
"""Below the one or above the other lie the pixels of an image that is called black or white; of 0…255."""
SPREAD = 8
"""Of an image of one colour, so few steps of 0…255 hold nearly all pixels of each channel."""
NEARLY_ALL = 0.99

MANY_COLORS = 24
"""So many colours that no class has are looked at for mixtures; fewer are listed one by one."""
RARE, LARGEST = 0.005, 0.05
"""Share of all pixels up to which any colour may come from smoothing, and up to which a mixture may."""
MOST = 2 / 3
"""Share that mixtures have in the pixels of what may come from smoothing before all of it is called so."""
TOLERANCE = 6.0
"""Distance in RGB between a mixture as it is rounded and compressed and the line between two colours."""
OVERSHOOT = 0.15
"""How far beyond its ends the line goes, as bicubic resizing does, in parts of its length."""
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
    """Which unknown colours come from smoothing or compression: many, most of them between two known colours.

    Args:
        unknown: pixels of each colour, 0xRRGGBB, that no class has.
        known: colours that the description names.
        pixels: of all labels.
    """
    if len(unknown) < MANY_COLORS or len(known) < 2:
        return set()
    frequent = sorted(unknown, key=lambda color: -unknown[color])[:LOOKED_AT]
    near = _distance_to_lines(_rgb(frequent), _rgb(known)) <= TOLERANCE
    between = {color for color, is_near in zip(frequent, near, strict=True) if is_near}
    smoothed = {color for color, count in unknown.items() if count <= (LARGEST if color in between else RARE) * pixels}
    looked_at = sum(unknown[color] for color in smoothed.intersection(frequent))
    mixed = sum(unknown[color] for color in smoothed & between)
    return smoothed if len(smoothed) >= MANY_COLORS and mixed >= MOST * looked_at else set()


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
        along = (offsets @ lines.T / np.maximum((lines**2).sum(1), 1)).clip(-OVERSHOOT, 1 + OVERSHOOT)  # [N, L]
        distances = np.linalg.norm(offsets[:, None] - along[:, :, None] * lines, axis=2)
        nearest = np.minimum(nearest, distances.min(1))
    return nearest
