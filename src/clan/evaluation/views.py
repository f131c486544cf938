"""Views of an image: the windows, scales and mirrorings in which the network sees it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

from clan.core.errors import ConfigError

Average = Literal["probabilities", "logits"]
"""What is averaged over views."""

FLIP = "flip"
USUAL_OVERLAP, LARGEST_OVERLAP = 0.25, 0.9
SMALLEST_SCALE, LARGEST_SCALE = 0.25, 4.0
SMALLEST_WINDOW = 32


class View(NamedTuple):
    """One look of the network at a part of an image.

    Args:
        left: first column of the part, in pixels of the result.
        top: its first row.
        width: its width.
        height: its height.
        size: width and height that the network sees.
        mirrored: whether it is flipped left to right.
    """

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]
    mirrored: bool = False


@dataclass(frozen=True)
class Views:
    """How an image is looked at.

    Args:
        window: width and height of windows that slide over the image; None: the whole image at once.
        overlap: share of a window's side that at least lies in the next window too.
        whole: width and height that the image is resized to before windows are cut; None: its own.
        flip: look at the mirrored image too.
        scales: factors of the image's size.
        average: what is averaged.

    Raises:
        ConfigError: a value does not fit.
    """

    window: tuple[int, int] | None = None
    overlap: float = USUAL_OVERLAP
    whole: tuple[int, int] | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    average: Average = "probabilities"

    def __post_init__(self) -> None:
        if self.window and min(self.window) < SMALLEST_WINDOW:
            given = " ".join(map(str, self.window))
            raise ConfigError(f"--window {given} is too small: give at least {SMALLEST_WINDOW} pixels a side")
        if not 0 <= self.overlap <= LARGEST_OVERLAP:
            raise ConfigError(f"--overlap {self.overlap:g} is no share of a window: give 0 to {LARGEST_OVERLAP}")
        for scale in self.scales:
            if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
                raise ConfigError(f"--tta {scale:g} is no scale: give {SMALLEST_SCALE} to {LARGEST_SCALE:g}")
        if len(set(self.scales)) < len(self.scales):
            raise ConfigError(f"--tta {' '.join(f'{scale:g}' for scale in self.scales)} names a scale twice")

    @classmethod
    def given(
        cls,
        *,
        window: tuple[int, int] | None = None,
        overlap: float | None = None,
        tta: Sequence[str] = (),
        tta_average: Average = "probabilities",
        input_size: tuple[int, int] | None = None,
    ) -> "Views":
        """Views as the command line names them.

        Args:
            window: see `Views`.
            overlap: see `Views`; None: a quarter.
            tta: "flip" and scales; without scales, 1.
            tta_average: see `Views.average`.
            input_size: the size that images are resized to, if one is given.

        Raises:
            ConfigError: a value does not fit.
        """
        if overlap is not None and window is None:
            raise ConfigError("--overlap is that of windows: give --window WIDTH HEIGHT too")
        return cls(
            window=window,
            overlap=USUAL_OVERLAP if overlap is None else overlap,
            whole=input_size if window else None,
            flip=FLIP in tta,
            scales=tuple(_scale(word) for word in tta if word != FLIP) or (1.0,),
            average=tta_average,
        )

    @property
    def plain(self) -> bool:
        """Whether the network sees each image once, as a whole."""
        return self.window is None and not self.flip and self.scales == (1.0,)

    def __str__(self) -> str:
        parts = []
        if self.window:
            parts.append(f"windows of {self.window[0]}x{self.window[1]} overlapping by {self.overlap:g}")
        if self.whole:
            parts.append(f"of images at {self.whole[0]}x{self.whole[1]}")
        parts += ["flip"] * self.flip
        if self.scales != (1.0,):
            parts.append(f"scales {' '.join(f'{scale:g}' for scale in self.scales)}")
        return ", ".join([*parts, f"mean of {self.average}"]) if parts else "plain"

    def record(self) -> dict[str, Any]:
        """The values as JSON has them."""
        return asdict(self)

    def of(self, size: tuple[int, int], seen: tuple[int, int]) -> list[View]:
        """All views of an image, from the top down; they cover every pixel.

        Args:
            size: width and height of the result.
            seen: width and height at which the network sees the whole image, unless `whole` says it.
        """
        seen = self.whole or seen
        window = self.window or (None, None)
        found = []
        for scale in self.scales:
            (lefts, width, across), (tops, height, down) = (
                _along(size[axis], seen[axis], scale, window[axis], self.overlap) for axis in (0, 1)
            )
            for top, left, mirrored in product(tops, lefts, (False, True)[: 1 + self.flip]):
                found.append(View(left, top, width, height, (across, down), mirrored))
        return sorted(found, key=lambda view: (view.top, view.size))


def _scale(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"--tta {word} is neither {FLIP} nor a scale such as 1.25") from None


def _along(length: int, seen: int, scale: float, window: int | None, overlap: float) -> tuple[list[int], int, int]:
    """The parts along one axis.

    Args:
        length: of the result.
        seen: of the whole image as the network would see it.
        scale: its factor.
        window: of what the network may see at once; None: no limit.
        overlap: see `Views`.

    Returns:
        Where parts begin in the result, how long they are there, and how long the network sees them.
    """
    whole = seen if scale == 1 else max(16, 8 * round(seen * scale / 8))
    if window is None or window >= whole:
        return [0], length, whole
    part = max(1, round(length * window / whole))
    count = 1 + math.ceil((length - part) / max(1.0, part * (1 - overlap)))
    return [round(number * (length - part) / max(1, count - 1)) for number in range(count)], part, window


def groups(views: Sequence[View], most: int) -> Iterator[Sequence[View]]:
    """Neighbours that the network sees at one size, at most so many at once."""
    first = 0
    for last in range(1, len(views) + 1):
        if last == len(views) or last - first == most or views[last].size != views[first].size:
            yield views[first:last]
            first = last
