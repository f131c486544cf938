"""Seconds of prediction without the network, for 6 images: PNG files in, two PNG files each out.

Decode, resize to 1024×512, normalise; upsample prepared logits to --size, argmax, write ids and colours.

    python benchmarks/around_prediction.py [--only plain] [--size 2048x1024] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import common
import frames
import numpy as np
from PIL import Image

IMAGES = 6
INPUT_SIZE = (1024, 512)


def plain_prediction(width: int, height: int) -> Callable[[], object]:
    """The port's way: Pillow, NumPy, all logits at full size."""
    from clan.core import runtime

    runtime.import_paddle()
    import paddle
    from paddle.nn import functional as F

    from clan.datasets.labels import CITYSCAPES

    temporary = frames.folder()
    root = Path(temporary.name)
    frames.cityscapes(root, IMAGES)
    logits = [paddle.to_tensor(maps[None]) for maps in frames.logits(65, 129)]
    (root / "result").mkdir()

    def predict() -> Callable[[], Iterator[np.ndarray]]:
        paths = sorted(Path(temporary.name, "leftImg8bit").rglob("*.png"))
        for path, maps in zip(paths, cycle(logits), strict=False):
            image = Image.open(path).convert("RGB").resize(INPUT_SIZE, Image.Resampling.BICUBIC)
            pixels = np.asarray(image, np.float32)[:, :, ::-1] - np.array(frames.MEAN_BGR, np.float32)
            paddle.to_tensor(pixels.transpose((2, 0, 1)).copy()[None])  # what the network would see
            full = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=True)
            train_ids = np.argmax(full.numpy()[0].transpose((1, 2, 0)), axis=2).astype(np.uint8)
            Image.fromarray(train_ids).save(root / "result" / path.name)
            colored = Image.fromarray(train_ids)
            colored.putpalette(CITYSCAPES.palette())
            colored.save(root / "result" / f"{path.stem}_color.png")
        return lambda: saved(root / "result")

    return predict


def clan_prediction(width: int, height: int) -> Callable[[], object]:
    """This project, as `clan evaluate` runs it."""
    from clan.core import runtime

    runtime.import_paddle()
    import paddle

    from clan.data.dataset import Dataset
    from clan.evaluation.label_maps import EvaluationOptions, evaluate

    temporary = frames.folder()
    root = Path(temporary.name)
    frames.cityscapes(root, IMAGES)
    logits = [paddle.to_tensor(maps[None]) for maps in frames.logits(65, 129)]

    class Prepared(paddle.nn.Layer):
        """In place of the segmenter."""

        align_corners = True

        def forward(self, images: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
            maps = next(self.logits)
            return maps, paddle.zeros_like(maps)

    network = Prepared()
    dataset = Dataset("cityscapes", root, split="val")

    def predict() -> Callable[[], Iterator[np.ndarray]]:
        assert temporary.name, "the files are there as long as this is"
        network.logits = cycle(logits)
        evaluate(network, dataset, root / "result", options=EvaluationOptions(output_size=(width, height)))
        return lambda: saved(root / "result")

    return predict


def saved(folder: Path) -> Iterator[np.ndarray]:
    """The pixels of every PNG, and the palette of those that have one."""
    for path in sorted(folder.iterdir()):
        image = Image.open(path)
        yield np.asarray(image)
        yield np.array((image.getpalette() or [])[: 19 * 3])


if __name__ == "__main__":
    contestants = {"plain": plain_prediction, "clan": clan_prediction}
    common.main(f"around the network, {IMAGES} images", contestants, size="2048x1024", equal_results=True)
