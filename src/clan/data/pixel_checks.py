"""Detects suspicious pixels: images of nearly one colour, and label colours blended at edges."""

from collections.abc import Collection

import numpy as np

BLACK, WHITE, ALIKE = "nearly black", "nearly white", "nearly of one colour"
SUSPICIOUS = frozenset({BLACK, WHITE, ALIKE})

DARKEST, BRIGHTEST = 32, 223
"""An image is black if its values are below the first, white if above the second; range 0…255."""
SPREAD = 8
"""Number of adjacent values 0…255 that contain nearly all pixels of each channel of a one-coloured image."""
NEARLY_ALL = 0.99
"""Share of the pixels that these conditions must hold for."""

MANY_COLORS = 24
"""Minimum number of undescribed colours to look for mixtures; fewer are listed one by one."""
RARE, LARGEST = 0.005, 0.05
"""Maximum share of all pixels of a colour caused by smoothing: of any colour, and of a mixture."""
MOST = 2 / 3
"""Minimum share of mixtures among the pixels of rare colours for calling all of them smoothed."""
TOLERANCE = 6.0
"""Maximum distance in RGB of a rounded or compressed mixture from the line between two colours."""
OVERSHOOT = 0.15
"""Extension of the line beyond both ends, as a share of its length; bicubic resizing overshoots."""
LOOKED_AT = 512
"""Number of most frequent colours that are compared."""


def sameness(histogram: np.ndarray) -> str | None:
    """Detects an image of nearly one colour.

    Args:
        histogram: [3, 256], number of pixels for each value of red, green and blue.

    Returns:
        `BLACK`, `WHITE` or `ALIKE`; None for any other image.
    """
    needed = NEARLY_ALL * histogram[0].sum()
    if (histogram[:, :DARKEST].sum(1) >= needed).all():
        return BLACK
    if (histogram[:, BRIGHTEST + 1 :].sum(1) >= needed).all():
        return WHITE
    cumulated = np.pad(histogram.cumsum(1), ((0, 0), (1, 0)))
    return ALIKE if ((cumulated[:, SPREAD:] - cumulated[:, :-SPREAD]).max(1) >= needed).all() else None


def mixtures(unknown: np.ndarray, counts: np.ndarray, known: Collection[int], pixels: int) -> np.ndarray:
    """The undescribed colours caused by smoothing or compression: many, and most lie between two described colours.

    Args:
        unknown: the undescribed colours, 0xRRGGBB, integers [N].
        counts: number of pixels of each, [N].
        known: the colours of the description.
        pixels: number of pixels of all labels.

    Returns:
        bool [N].
    """
    nothing = np.zeros(len(unknown), bool)
    if len(unknown) < MANY_COLORS or len(known) < 2:
        return nothing
    frequent = np.argsort(-counts, kind="stable")[:LOOKED_AT]
    looked_at, between = nothing.copy(), nothing.copy()
    looked_at[frequent] = True
    between[frequent] = _distance_to_lines(_rgb(unknown[frequent]), _rgb(list(known))) <= TOLERANCE
    smoothed = counts <= np.where(between, LARGEST, RARE) * pixels
    mixed = counts[smoothed & between].sum()
    enough = smoothed.sum() >= MANY_COLORS and mixed >= MOST * counts[smoothed & looked_at].sum()
    return smoothed if enough else nothing


def _rgb(colors: np.ndarray | list[int]) -> np.ndarray:
    """0xRRGGBB → float32 [N, 3]."""
    codes = np.asarray(colors)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.float32)


def _distance_to_lines(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance [N] of each point [N, 3] to the nearest line between two of the ends [K, 3]."""
    nearest = np.full(len(points), np.inf, np.float32)
    for number, start in enumerate(ends[:-1]):
        lines = ends[number + 1 :] - start  # [L, 3]
        offsets = points - start  # [N, 3]
        along = (offsets @ lines.T / np.maximum((lines**2).sum(1), 1)).clip(-OVERSHOOT, 1 + OVERSHOOT)  # [N, L]
        distances = np.linalg.norm(offsets[:, None] - along[:, :, None] * lines, axis=2)
        nearest = np.minimum(nearest, distances.min(1))
    return nearest
