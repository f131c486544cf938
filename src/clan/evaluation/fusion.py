"""One label map from many views of an image, in bands of rows: memory depends on the image's width, not its height."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clan.evaluation.finite import require_finite
from clan.evaluation.resampling import interpolation
from clan.evaluation.views import View, Views, groups
from clan.models.options import Upsampling

BLOCK = 1 << 22
"""Numbers of upsampled logits that are held at once, at most but for a single row."""

Logits = Callable[[np.ndarray], np.ndarray]
"""Images as the network sees them, uint8 RGB [N, h, w, 3] → every head's logits, float32 [N, heads, C, a, b]."""


@dataclass(frozen=True)
class Fused:
    """What views say together.

    Args:
        labels: trainIds, uint8 [H, W].
        confidence: the largest mean probability of a class, 0…1, float32 [H, W]; None: not wanted.
        discrepancy: the mean of 1 − cosine of two heads' probabilities, 0…1, float32 [H, W]; None: not wanted, or
            there are not two heads.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None
    discrepancy: np.ndarray | None = None


@dataclass(frozen=True)
class ViewFusion:
    """How views are fused.

    Args:
        logits: runs the network.
        views: which views.
        upsampling: interpolation of logits.
        align_corners: see `clan.evaluation.resampling.interpolation`.
        excluded: a trainId that is never predicted.
        maps: whether confidence and discrepancy are wanted.
        batch_size: views that the network sees at once, at most.
    """

    logits: Logits
    views: Views
    upsampling: Upsampling = "bilinear"
    align_corners: bool = True
    excluded: int | None = None
    maps: bool = False
    batch_size: int = 1

    def __call__(
        self,
        image: Image.Image,
        size: tuple[int, int],
        seen: tuple[int, int],
        on_view: Callable[[], object] = lambda: None,
    ) -> Fused:
        """Looks at an image.

        Args:
            image: RGB.
            size: width and height (W, H) of the result.
            seen: see `Views.of`.
            on_view: called when the network has seen a view.

        Raises:
            NotFinite: a logit is not finite.
        """
        width, height = size
        fused = _empty(size, maps=self.maps)
        waiting, live = deque(self.views.of(size, seen)), list[_Seen]()
        top = 0
        while top < height:
            due = []
            while waiting and waiting[0].top <= top:
                due.append(waiting.popleft())
            for group in groups(due, self.batch_size):
                pictures = np.stack([_cut(image, size, view) for view in group])
                for view, logits in zip(group, require_finite(self.logits(pictures)), strict=True):
                    live.append(_Seen(view, logits, size, self))
                    on_view()
            # Every view that is live covers all rows of the band.
            ends = [one.bottom for one in live] + [view.top for view in list(waiting)[:1]]
            bottom = min(top + max(1, BLOCK // (live[0].channels * width)), *ends)
            fused = self._fill(fused, live, slice(top, bottom))
            live = [one for one in live if one.bottom > bottom]
            top = bottom
        return fused

    def _fill(self, fused: Fused, live: Sequence["_Seen"], rows: slice) -> Fused:
        """Computes a band of rows."""
        shape = (rows.stop - rows.start, fused.labels.shape[1])
        total, weight = np.zeros((live[0].classes, *shape), np.float32), np.zeros(shape, np.float32)
        apart = np.zeros(shape, np.float32) if self.maps and live[0].heads == 2 else None
        for one in live:
            columns = slice(one.view.left, one.view.left + one.view.width)
            share = one.weights(rows)
            values, discrepancy = one.values(rows, discrepancy=apart is not None)
            values *= share
            total[:, :, columns] += values
            weight[:, columns] += share
            if apart is not None:
                apart[:, columns] += discrepancy * share
        total /= weight
        if fused.confidence is not None:
            probabilities = total if self.views.average == "probabilities" else _softmax(total.copy())
            fused.confidence[rows] = probabilities.max(axis=0)
        if self.excluded is not None and self.excluded < len(total):
            total[self.excluded] = -np.inf
        fused.labels[rows] = total.argmax(axis=0)
        if apart is None:
            return Fused(fused.labels, fused.confidence)
        assert fused.discrepancy is not None
        fused.discrepancy[rows] = (apart / weight).clip(0, 1)
        return fused


def _empty(size: tuple[int, int], *, maps: bool) -> Fused:
    shape = size[::-1]
    if not maps:
        return Fused(np.empty(shape, np.uint8))
    return Fused(np.empty(shape, np.uint8), np.empty(shape, np.float32), np.empty(shape, np.float32))


def _cut(image: Image.Image, size: tuple[int, int], view: View) -> np.ndarray:
    """What the network sees of a view, uint8 RGB [h, w, 3]."""
    across, down = image.width / size[0], image.height / size[1]
    box = (
        view.left * across,
        view.top * down,
        min(image.width, (view.left + view.width) * across),
        min(image.height, (view.top + view.height) * down),
    )
    pixels = np.asarray(image.resize(view.size, Image.Resampling.BICUBIC, box=box))
    return pixels[:, ::-1] if view.mirrored else pixels


class _Seen:
    """A view of a result of `size` (width, height) and the logits of every head, float32 [heads, C, a, b]."""

    def __init__(self, view: View, logits: np.ndarray, size: tuple[int, int], how: ViewFusion) -> None:
        self.view, self.how = view, how
        self.heads, self.classes = logits.shape[:2]
        self.logits = logits[..., ::-1] if view.mirrored else logits
        mode, corners = how.upsampling, how.align_corners
        self.vertical = interpolation(logits.shape[2], view.height, mode, corners)
        self.horizontal = interpolation(logits.shape[3], view.width, mode, corners)
        overlap = how.views.overlap
        self.ramps = (
            _ramp(view.height, overlap if view.height < size[1] else 0.0),
            _ramp(view.width, overlap if view.width < size[0] else 0.0),
        )

    @property
    def bottom(self) -> int:
        """The first row below."""
        return self.view.top + self.view.height

    @property
    def channels(self) -> int:
        """Of what is computed per pixel."""
        return self.classes * (1 + self.heads * (self.how.maps and self.heads == 2))

    def weights(self, rows: slice) -> np.ndarray:
        """How much each pixel of some rows of the result counts, float32 [rows, width]."""
        return self.ramps[0][self._own(rows), None] * self.ramps[1]

    def values(self, rows: slice, *, discrepancy: bool) -> tuple[np.ndarray, np.ndarray | float]:
        """What is averaged, float32 [C, rows, width], and the discrepancy of the heads, float32 [rows, width]."""
        total = self._upsampled(self.logits.sum(axis=0), rows)
        values = _softmax(total) if self.how.views.average == "probabilities" else total
        if not discrepancy:
            return values, 0.0
        first, second = (_softmax(self._upsampled(head, rows)) for head in self.logits)
        squares = np.einsum("chw,chw->hw", first, first) * np.einsum("chw,chw->hw", second, second)
        return values, 1 - np.einsum("chw,chw->hw", first, second) / np.sqrt(squares)

    def _upsampled(self, logits: np.ndarray, rows: slice) -> np.ndarray:
        return np.matmul(np.matmul(self.vertical[self._own(rows)], logits), self.horizontal.T)

    def _own(self, rows: slice) -> slice:
        return slice(rows.start - self.view.top, rows.stop - self.view.top)


def _ramp(length: int, overlap: float) -> np.ndarray:
    """Weights along a part that rise from its ends, float32 [length]: the network sees less around what lies there."""
    if not overlap:
        return np.ones(length, np.float32)
    near = np.minimum(np.arange(length) + 0.5, np.arange(length)[::-1] + 0.5)
    return np.minimum(1.0, near / max(1.0, overlap * length)).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis; overwrites its argument."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
