"""Draws docs/images/demo.png from the output of `clan demo`: `python tools/picture.py demo`.

It shows a camera picture of the validation split, its truth, what both methods make of it and where CLAN's heads
disagree. The picture is not chosen by eye: of all, it is the one whose gain is the median.
"""

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clan.core import runtime
from clan.data.dataset import Dataset
from clan.datasets.labels import CITYSCAPES
from clan.evaluation.overlays import DISCREPANCY, FAINT, INK, heat_palette
from clan.run import presets as recipes

GAP, LINE, COLUMNS = 14, 22, 3
BACKGROUND = (255, 255, 255)


def median_gain(folder: Path) -> tuple[str, dict[str, float]]:
    """Returns the stem of the image with the median gain in mIoU, and its mIoU by method."""
    scores = {
        method: json.loads((folder / "result" / method / "scores.json").read_text())["images"]
        for method in ("source-only", "clan")
    }
    ranked = sorted(scores["clan"], key=lambda stem: scores["clan"][stem] - scores["source-only"][stem])
    stem = ranked[len(ranked) // 2]
    return stem, {method: images[stem] for method, images in scores.items()}


def panels(folder: Path, stem: str, miou: dict[str, float]) -> dict[str, Image.Image]:
    """Returns the pictures by caption."""
    from clan.evaluation.model import load

    dataset = Dataset("cityscapes", folder / "worlds/Cityscapes", split="val")
    image, truth = dataset.read_pair(dataset.stems.index(stem))
    (snapshot,) = (path for path in (folder / "clan").glob("SYS_*.pdparams") if not path.stem.endswith("_D"))
    discrepancy = load(snapshot, input_size=recipes.DEMO_TRAINING_SIZE)(image).discrepancy
    greatest = float(discrepancy.max())
    seen = Image.fromarray(heat_palette()[DISCREPANCY.quantize(discrepancy / greatest, image.size)])
    predicted = {method: Image.open(folder / "result" / method / f"{stem}_color.png").convert("RGB") for method in miou}
    return {
        "camera picture": image,
        "truth, which no run has seen": Image.fromarray(CITYSCAPES.colorize(truth)),
        f"CLAN's heads disagree, 0 to {greatest:.2f}": seen,
        f"source only, mIoU {100 * miou['source-only']:.0f}": predicted["source-only"],
        f"CLAN, mIoU {100 * miou['clan']:.0f}": predicted["clan"],
    }


def sheet(shown: dict[str, Image.Image]) -> Image.Image:
    """Arranges the pictures in rows with captions, and the legend in the last cell."""
    font = ImageFont.load_default(15)
    width, height = next(iter(shown.values())).size
    size = (COLUMNS * (width + GAP) + GAP, 2 * (height + LINE + GAP) + GAP)
    result = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(result)

    def corner(number: int) -> tuple[int, int]:
        row, column = divmod(number, COLUMNS)
        return GAP + column * (width + GAP), GAP + row * (height + LINE + GAP)

    for number, (caption, picture) in enumerate(shown.items()):
        left, top = corner(number)
        result.paste(picture, (left, top))
        draw.text((left, top + height + 3), caption, fill=INK, font=font)
    left, top = corner(len(shown))
    rows = -(-CITYSCAPES.num_classes // 3)
    for train_id, (name, color) in enumerate(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True)):
        column, row = divmod(train_id, rows)
        x, y = left + 8 + column * width // 3, top + row * LINE
        draw.rectangle((x, y + 2, x + 14, y + 16), fill=color, outline=FAINT)
        draw.text((x + 20, y), name, fill=INK, font=font)
    return result


def main() -> None:
    """Draws and saves the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of a demo run")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/demo.png"))
    given = parser.parse_args()
    runtime.import_paddle()
    stem, miou = median_gain(given.demo)
    picture = sheet(panels(given.demo, stem, miou)).quantize(256, dither=Image.Dither.NONE)
    picture.save(given.output, optimize=True)
    print(f"{stem} in {given.output}, {given.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
