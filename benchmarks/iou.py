"""Seconds to score 100 predictions against their ground truths, PNG files in, confusion matrix out.

python benchmarks/iou.py [--only plain] [--size 2048x1024] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import common
import frames
import numpy as np
from PIL import Image

PAIRS, CLASSES = 100, 19


def plain_scoring(width: int, height: int) -> Callable[[], object]:
    """The port's way, image by image: a comparison of the whole label for each id, then a histogram."""
    from clan.datasets.labels import CITYSCAPES_TO_TRAIN_ID

    temporary = frames.folder()
    root = Path(temporary.name)
    frames.scored(root, PAIRS, (width, height))
    mapping = {label_id: CITYSCAPES_TO_TRAIN_ID.get(label_id, 255) for label_id in range(34)}

    def score() -> np.ndarray:
        confusion = np.zeros((CLASSES, CLASSES), np.int64)
        for path in sorted(Path(temporary.name, "result").iterdir()):
            prediction = np.array(Image.open(path))
            truth = root / f"gtFine/town/{path.name.replace('_leftImg8bit', '_gtFine_labelIds')}"
            label_ids = np.array(Image.open(truth))
            train_ids = np.copy(label_ids)
            for label_id, train_id in mapping.items():
                train_ids[label_ids == label_id] = train_id
            confusion += histogram(np.array(train_ids, np.int64).flatten(), prediction.flatten())
        return confusion

    def histogram(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        valid = (truth >= 0) & (truth < CLASSES)
        pairs = CLASSES * truth[valid].astype(int) + prediction[valid]
        return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)

    return score


def clan_scoring(width: int, height: int) -> Callable[[], object]:
    """This project, as `clan iou` runs it."""
    from clan.evaluation.scoring import score_folders

    temporary = frames.folder()
    root = Path(temporary.name)
    frames.scored(root, PAIRS, (width, height))
    return lambda: score_folders(Path(temporary.name, "gtFine"), root / "result").confusion


if __name__ == "__main__":
    contestants = {"plain": plain_scoring, "clan": clan_scoring}
    common.main(f"IoU of {PAIRS} pairs", contestants, size="2048x1024", equal_results=True)
