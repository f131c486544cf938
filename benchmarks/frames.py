"""Input files in the original sizes and formats for the benchmarks, from the real frames of ../shared.

Cityscapes: 2048×1024, one real frame, shifted to make others. SYNTHIA: 1280×760, real frames of half that size
enlarged, with 16-bit labels. Predictions: those of a public network, enlarged to 2048×1024.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
LINDAU = "Cityscapes/{}/val/lindau/lindau_000014_000019_{}.png"


def folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that lives as long as what is returned."""
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is not here: this benchmark reads real frames from it")
    return tempfile.TemporaryDirectory(prefix="clan-benchmark-")


def cityscapes(root: Path, count: int) -> None:
    """Images of the val split, named after their number."""
    image = cv2.imread(str(SHARED / "mini" / LINDAU.format("leftImg8bit", "leftImg8bit")))
    for number in range(count):
        _write(root / f"leftImg8bit/val/town/town_{number}_leftImg8bit.png", np.roll(image, 97 * number, axis=1))


def synthia(root: Path, count: int) -> None:
    """Images and labels."""
    names = sorted(path.name for path in (SHARED / "mini/SYNTHIA/RAND_CITYSCAPES/RGB").iterdir())
    for number in range(count):
        for kind, interpolation in (("RGB", cv2.INTER_CUBIC), ("GT/LABELS", cv2.INTER_NEAREST)):
            path = SHARED / "mini/SYNTHIA/RAND_CITYSCAPES" / kind / names[number % len(names)]
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            large = cv2.resize(pixels, (1280, 760), interpolation=interpolation)
            _write(root / kind / f"{number:07}.png", large)


def predictions() -> list[np.ndarray]:
    """TrainIds, uint8 [512, 1024], that a public network predicted of 24 real images."""
    return [np.asarray(Image.open(path)) for path in sorted((SHARED / "iou/result/DA").iterdir())]


def scored(root: Path, count: int, size: tuple[int, int]) -> None:
    """`gtFine` and `result`: pairs of labelIds and predicted trainIds, as Pillow writes them by default."""
    pairs = zip(sorted((SHARED / "iou/gtFine/val").rglob("*.png")), predictions(), strict=True)
    large = [
        [Image.fromarray(ids).resize(size, Image.Resampling.NEAREST) for ids in (np.asarray(Image.open(path)), ids)]
        for path, ids in pairs
    ]
    for name in ("gtFine/town", "result"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        truth, prediction = large[number % len(large)]
        truth.save(root / f"gtFine/town/town_{number}_gtFine_labelIds.png")
        prediction.save(root / f"result/town_{number}_leftImg8bit.png")


def logits(height: int, width: int) -> list[np.ndarray]:
    """Like a network's, float32 [19, height, width]: the logarithm of every class's share around a point, and noise."""
    random = np.random.default_rng(0)
    maps = []
    for train_ids in predictions():
        shares = [cv2.resize((train_ids == c).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
                  for c in range(19)]  # fmt: skip
        smooth = np.stack([cv2.GaussianBlur(share, (5, 5), 1) for share in shares])
        maps.append((np.log(smooth + 1e-3) + 0.3 * random.normal(size=smooth.shape)).astype(np.float32))
    return maps


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
