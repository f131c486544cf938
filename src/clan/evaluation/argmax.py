"""From coarse logits to a label map at full size, without computing the upsampled logits."""

import numpy as np

from clan.core.compilation import compiled_exactly


def label_map(logits: np.ndarray, size: tuple[int, int], *, excluded: int | None = None) -> np.ndarray:
    """The class with the largest logit at every pixel after bilinear upsampling with aligned corners.

    The result equals Paddle's `interpolate` followed by `argmax` exactly, including ties: the compared logits are
    computed in the order and precision of Paddle's CPU kernel.

    Args:
        logits: float32 [C, h, w].
        size: height and width (H, W) of the result.
        excluded: a trainId that is never predicted; None: no such class.

    Returns:
        trainIds, uint8 [H, W].
    """
    classes = np.array([c for c in range(len(logits)) if c != excluded], np.uint8)
    chosen = np.ascontiguousarray(logits[classes])
    # Rounding changes a logit by a few units in the last place (6e-8): lower logits cannot win.
    margin = np.float32(1e-5) * np.abs(chosen).max()
    labels = np.empty(size, np.uint8)
    _label_cells(chosen, classes, _grid(logits.shape[1], size[0]), _grid(logits.shape[2], size[1]), margin, labels)
    return labels


def _grid(coarse: int, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interpolation of one axis.

    Returns:
        The first fine pixel of each coarse interval, int64 [coarse + 1]; the weights of the coarse values before and
        after each fine pixel, both float32 [fine].
    """
    ratio = np.float32(coarse - 1) / np.float32(fine - 1) if fine > 1 else np.float32(0)
    position = ratio * np.arange(fine, dtype=np.float32)
    interval = position.astype(np.int64)
    ahead = position - interval.astype(np.float32)
    return np.searchsorted(interval, np.arange(coarse + 1)), np.float32(1) - ahead, ahead


@compiled_exactly
def _label_cells(
    logits: np.ndarray,
    classes: np.ndarray,
    vertical: tuple[np.ndarray, np.ndarray, np.ndarray],
    horizontal: tuple[np.ndarray, np.ndarray, np.ndarray],
    margin: float,
    labels: np.ndarray,
) -> None:
    """Fills `labels`, one cell between four coarse logits at a time.

    Within a cell, a logit is between the minimum and maximum of its corners. A class whose maximum is below another's
    minimum cannot win; most cells have one remaining class and need no interpolation.
    """
    channels, height, width = logits.shape
    rows, columns = vertical[0], horizontal[0]
    greatest = np.empty(channels, np.float32)
    candidates = np.empty(channels, np.int64)
    for y in range(height):
        for x in range(width):
            below, right = min(y + 1, height - 1), min(x + 1, width - 1)
            floor = np.float32(-np.inf)
            for c in range(channels):
                a, b, d, e = logits[c, y, x], logits[c, below, x], logits[c, y, right], logits[c, below, right]
                greatest[c] = max(max(a, b), max(d, e))
                floor = max(floor, min(min(a, b), min(d, e)))
            count = 0
            for c in range(channels):
                if not greatest[c] < floor - margin:  # true for NaN
                    candidates[count] = c
                    count += 1
            cell = labels[rows[y] : rows[y + 1], columns[x] : columns[x + 1]]
            if count == 1:
                cell[:] = classes[candidates[0]]
            else:
                corners = logits[:, y : below + 1, x : right + 1]
                _label_cell(corners, classes, candidates[:count], vertical, horizontal, rows[y], columns[x], cell)


@compiled_exactly
def _label_cell(
    corners: np.ndarray,
    classes: np.ndarray,
    candidates: np.ndarray,
    vertical: tuple[np.ndarray, np.ndarray, np.ndarray],
    horizontal: tuple[np.ndarray, np.ndarray, np.ndarray],
    top: int,
    left: int,
    cell: np.ndarray,
) -> None:
    """Interpolates the candidates of one cell and writes the class with the largest logit; the first of equal ones."""
    height, width = cell.shape
    best = np.empty(width, np.float32)
    winner = np.empty(width, np.int32)
    behind, ahead = horizontal[1][left : left + width], horizontal[2][left : left + width]
    for y in range(height):
        from_above, from_below = vertical[1][top + y], vertical[2][top + y]
        for i, c in enumerate(candidates):
            a, d = corners[c, 0, 0] * from_above, corners[c, 0, -1] * from_above
            b, e = corners[c, -1, 0] * from_below, corners[c, -1, -1] * from_below
            for x in range(width):
                logit = ((a * behind[x] + b * behind[x]) + d * ahead[x]) + e * ahead[x]
                wins = i == 0 or logit > best[x]
                best[x] = logit if wins else best[x]
                winner[x] = c if wins else winner[x]
        for x in range(width):
            cell[y, x] = classes[winner[x]]
