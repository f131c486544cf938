"""Seconds of one worker for 10 pairs of a source and a target sample, PNG files in, arrays out.

Source: SYNTHIA, 1280×760, with labels. Target: Cityscapes, 2048×1024 resized to --size. Random scaling and mirroring
as the official code does, with the same draws for both contestants. One thread, as one worker of the loader.

    python benchmarks/loader.py [--only plain] [--size 1024x512] [--repeats 5] [--json FILE] [--profile]
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import cv2
import frames
import numpy as np
from PIL import Image

PAIRS = 10
SOURCE_SIZE = (1280, 760)
SEED = 0


def plain_loader(width: int, height: int) -> Callable[[], object]:
    """The port's steps: Pillow, a comparison of the whole label for each id, float arithmetic, `np.take` to mirror."""
    from clan.data.transforms import choose_scale
    from clan.datasets.labels import SYNTHIA_TO_TRAIN_ID
    from clan.run.config import AugmentationConfig

    temporary = frames.folder()
    root = Path(temporary.name)
    frames.synthia(root / "source", PAIRS)
    frames.cityscapes(root / "target", PAIRS)

    def sample(image_path: Path, size: tuple[int, int], draws: np.ndarray, label_path: Path | None) -> list[np.ndarray]:
        scale = choose_scale(draws[0], AugmentationConfig().scales)
        image = Image.open(image_path).convert("RGB")
        image = image.resize((int(size[0] * scale), int(size[1] * scale)), Image.Resampling.BICUBIC)
        pixels = np.asarray(image, np.float32)[:, :, ::-1]
        arrays = [(pixels - np.array(frames.MEAN_BGR, np.float32)).transpose((2, 0, 1))]
        if label_path:
            classes = Image.fromarray(cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)[:, :, 2].astype(np.uint8))
            label = np.asarray(classes.resize(size, Image.Resampling.NEAREST), np.float32)
            train_ids = 255 * np.ones(label.shape, np.float32)
            for class_id, train_id in SYNTHIA_TO_TRAIN_ID.items():
                train_ids[label == class_id] = train_id
            arrays.append(train_ids.astype(np.uint8))
        if draws[1] < 0.5:
            arrays = [np.take(array, range(array.shape[-1] - 1, -1, -1), axis=-1) for array in arrays]
        return [np.stack([array]) for array in arrays]

    def load() -> Iterator[np.ndarray]:
        for number in range(PAIRS):
            name = f"{number:07}.png"
            draws = np.random.default_rng([SEED, 0, 1, number]).random(2)
            yield from sample(root / "source/RGB" / name, SOURCE_SIZE, draws, root / "source/GT/LABELS" / name)
            image = Path(temporary.name, f"target/leftImg8bit/val/town/town_{number}_leftImg8bit.png")
            yield from sample(image, (width, height), np.random.default_rng([SEED, 1, 1, number]).random(2), None)

    return lambda: exhausted(load)


def clan_loader(width: int, height: int) -> Callable[[], object]:
    """This project's loader."""
    from clan.data.dataset import Dataset
    from clan.data.loader import DomainSampler, PairedLoader
    from clan.run.config import AugmentationConfig

    temporary = frames.folder()
    root = Path(temporary.name)
    frames.synthia(root / "source", PAIRS)
    frames.cityscapes(root / "target", PAIRS)

    def sampler(dataset: Dataset, size: tuple[int, int], domain: int, labelled: bool) -> DomainSampler:
        return DomainSampler(
            dataset, size=size, augmentation=AugmentationConfig(), batch_size=1, shuffle=False, labelled=labelled,
            seed=(SEED, domain),
        )  # fmt: skip

    source = sampler(Dataset("synthia", root / "source"), SOURCE_SIZE, 0, labelled=True)
    target = sampler(Dataset("cityscapes", root / "target", split="val"), (width, height), 1, labelled=False)
    loader = PairedLoader(source, target)

    def load() -> Iterator[np.ndarray]:
        assert temporary.name, "the files are there as long as this is"
        for number in range(PAIRS):
            pair = loader.pair(number)
            yield from (pair.source.images, pair.source.labels, pair.target.images)

    return lambda: exhausted(load)


def exhausted(load: Callable[[], Iterator[np.ndarray]]) -> Callable[[], Iterator[np.ndarray]]:
    """Loads everything, keeping nothing; what is returned loads it again, to be compared."""
    for _ in load():
        pass
    return load


def profile() -> None:
    """Where this project's loader spends its time."""
    run = clan_loader(1024, 512)
    run()
    with cProfile.Profile() as measured:
        run()
    pstats.Stats(measured).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    if sys.argv[1:] == ["--profile"]:
        profile()
    else:
        contestants = {"plain": plain_loader, "clan": clan_loader}
        common.main(f"{PAIRS} pairs, one worker", contestants, size="1024x512", equal_results=True)
