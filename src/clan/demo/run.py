"""The demo: two worlds, two runs, a table and pictures. Everything that it prints is measured."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clan import recipes
from clan.bulk import score_together
from clan.data.datasets import Dataset
from clan.demo.worlds import write_worlds
from clan.engine.distributed import ALONE
from clan.errors import ConfigError
from clan.evaluate import evaluate, load_segmenter, options_for
from clan.labels import CITYSCAPES
from clan.metrics.iou import Scores
from clan.reporting.console import percent, progress
from clan.reporting.images import save_png
from clan.train import train

SOURCE_IMAGES, TARGET_IMAGES, VALIDATION_IMAGES = 240, 160, 40
METHODS = ("source-only", "clan")
PICTURES = 8
"""Side-by-side pictures saved."""


def run_demo(folder: Path, *, steps: int, seed: int) -> None:
    """Draws the worlds, trains both methods, scores them on the camera world and shows the outcome.

    Args:
        folder: where everything is written.
        steps: iterations of each run.
        seed: of the worlds and the runs.

    Raises:
        ConfigError: fewer than 10 steps.
    """
    if steps < 10:
        raise ConfigError(f"--steps {steps} is too few to learn anything: give 10 or more")
    print(f"drawing {SOURCE_IMAGES} rendered and {TARGET_IMAGES + VALIDATION_IMAGES} camera pictures (both synthetic)")
    worlds = folder / "worlds"
    write_worlds(
        worlds,
        source_images=SOURCE_IMAGES,
        target_train_images=TARGET_IMAGES,
        target_val_images=VALIDATION_IMAGES,
        size=recipes.DEMO_SIZE,
        seed=seed,
    )
    validation = Dataset("cityscapes", worlds / "Cityscapes", split="val")
    scores: dict[str, Scores] = {}
    for method in METHODS:
        print(f"\n{method}")
        snapshot = train(recipes.demo(folder, method, steps=steps, seed=seed))
        options = options_for(snapshot, num_classes=None, upsampling=None, input_size=recipes.DEMO_TRAINING_SIZE)
        segmenter = load_segmenter(snapshot, backbone=options.backbone, num_classes=options.num_classes)
        result = folder / "result" / method
        with progress("evaluating", len(validation)) as advance:
            evaluate(segmenter, validation, result, options=options, on_image=lambda _: advance())
        scores[method] = score_together(validation, ALONE, "trainId", result, weights=snapshot)
    print(f"\n{table(scores)}\n")
    for index in range(min(PICTURES, len(validation))):
        save_png(side_by_side(validation, index, folder / "result"), folder / "pictures" / f"{index}.png")
    print(f"IoU in %, on {len(validation)} camera pictures that no run was trained on; both worlds are synthetic.")
    print(f"pictures (image, truth, {', '.join(METHODS)}): {folder / 'pictures'}")


def table(scores: Mapping[str, Scores]) -> str:
    """One line per class that occurs and per mean; one column per method."""
    lines = [f"{'':12}" + "".join(f"{method:>13}" for method in scores)]
    columns = list(scores.values())
    for train_id, name in enumerate(CITYSCAPES.names):
        if not np.isnan([column.iou[train_id] for column in columns]).all():
            lines.append(f"{name:12}" + "".join(f"{percent(column.iou[train_id]):>13}" for column in columns))
    for mean in columns[0].means:
        lines.append(f"{mean:12}" + "".join(f"{percent(column.means[mean]):>13}" for column in columns))
    return "\n".join(lines)


def side_by_side(dataset: Dataset, index: int, results: Path) -> Image.Image:
    """An image, its truth and what each method predicted, two by two, each with its name."""
    image, truth = dataset.read_pair(index)
    stem = Path(dataset.names[index]).stem
    panels = {"image": image, "truth": Image.fromarray(CITYSCAPES.colorize(truth))}
    for method in METHODS:
        with Image.open(results / method / f"{stem}_color.png") as color:
            panels[method] = color.convert("RGB")
    width, height = image.size
    sheet = Image.new("RGB", (2 * width + 4, 2 * height + 4), "white")
    for number, (title, panel) in enumerate(panels.items()):
        ImageDraw.Draw(panel).text((6, 4), title, fill="white", stroke_width=1, stroke_fill="black")
        sheet.paste(panel, ((width + 4) * (number % 2), (height + 4) * (number // 2)))
    return sheet
