"""The demo: two drawn worlds, two runs, a table, pictures and a report; all printed numbers are measured."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clan.core.errors import ConfigError
from clan.core.output import progress
from clan.core.ranks import ALONE
from clan.data.dataset import Dataset
from clan.data.transforms import resize_image
from clan.datasets.labels import CITYSCAPES
from clan.evaluation.bulk import score_together
from clan.evaluation.images import save_png
from clan.evaluation.iou import Scores
from clan.evaluation.label_maps import evaluate, load_segmenter, options_for
from clan.evaluation.overlays import BACKGROUND, INK, legend
from clan.evaluation.tables import percent
from clan.reporting.html import delta
from clan.reporting.page import make_report
from clan.run import presets as recipes
from clan.run.checkpoint import changes
from clan.run.config import Config, load, to_yaml
from clan.streets.worlds import write_worlds
from clan.training.run import train

SOURCE_IMAGES, TARGET_IMAGES, VALIDATION_IMAGES = 240, 160, 40
METHODS = ("source-only", "clan")
PICTURES = 8
"""Number of side-by-side pictures."""

PANEL, CAPTION = (480, 240), 24
"""Width and height of a panel of these pictures, and the height of its caption, in pixels."""

DRAWN = (
    "Both worlds are synthetic: this program drew every picture and every label, and no photograph is among them. "
    "The scores show what adaptation does, not how well the published networks do."
)


LARGEST = 10**9
"""Of the numbers that the demo is given; larger ones are typing errors."""


def run_demo(folder: Path, *, steps: int, seed: int) -> None:
    """Draws the worlds, trains both methods, scores them on the camera world and prints the scores.

    Args:
        folder: output folder.
        steps: iterations of each run, at least 10.
        seed: random seed of the worlds and the runs.

    Raises:
        ConfigError: too few steps, a number out of range, or the folder holds a demo with other steps or another seed.
    """
    if steps < 10:
        raise ConfigError(f"--steps {steps} is too few to learn anything: give 10 or more")
    if max(steps, seed) > LARGEST or seed < 0:
        raise ConfigError(f"--steps {steps} or --seed {seed} is no such number: give 0 to {LARGEST}")
    for method in METHODS:
        require_same(recipes.demo(folder, method, steps=steps, seed=seed))
    print("Two street worlds, both drawn by this program; no photograph is used.")
    print(f"  rendered  {SOURCE_IMAGES} pictures with labels: the source")
    print(f"  camera    {TARGET_IMAGES} pictures without labels: the target; {VALIDATION_IMAGES} more to score on")
    print(f"Everything is written to {folder}.")
    heading(1, "drawing the worlds")
    worlds = folder / "worlds"
    write_worlds(
        worlds,
        source_images=SOURCE_IMAGES,
        target_train_images=TARGET_IMAGES,
        target_val_images=VALIDATION_IMAGES,
        size=recipes.DEMO_SIZE,
        seed=seed,
    )
    validation = Dataset(recipes.demo_domains()[1], worlds / "Cityscapes", split="val")
    scores: dict[str, Scores] = {}
    for number, method in enumerate(METHODS, start=2):
        heading(number, f"{method}: {steps} iterations, then {len(validation)} pictures to score")
        snapshot = train(recipes.demo(folder, method, steps=steps, seed=seed), resume="auto", accept_changes=True)
        options = options_for(snapshot, num_classes=None, upsampling=None)
        segmenter = load_segmenter(snapshot, options.network)
        result = folder / "result" / method
        with progress("evaluating", len(validation)) as advance:
            evaluate(segmenter, validation, result, options=options, on_image=lambda _: advance())
        scores[method] = score_together(validation, ALONE, "trainId", result, weights=snapshot)
    heading(len(METHODS) + 2, "pictures and a report")
    for index in range(min(PICTURES, len(validation))):
        save_png(side_by_side(validation, index, folder / "result"), folder / "pictures" / f"{index}.png")
    report = folder / "report.html"
    make_report([folder / method for method in METHODS], report, notices=[DRAWN])
    print_scores(scores, len(validation))
    print(f"pictures  {folder / 'pictures'}/    image, truth, {', '.join(METHODS)}")
    print(f"report    {report}    open it in a browser")


def require_same(config: Config) -> None:
    """Checks that the run in `config.snapshot_dir`, if any, has the same options, except folders of data.

    Raises:
        ConfigError: it has other options.
    """
    path = config.snapshot_dir / "config.yaml"
    if not path.is_file():
        return
    there = load(path)
    roles = ("source", "target")  # which may have moved
    here = config.model_copy(update={role: getattr(there, role) for role in roles})
    if changed := changes(to_yaml(there), to_yaml(here)):
        raise ConfigError(
            f"{config.snapshot_dir.parent} holds another demo ({changed}): give its --steps and --seed to go on with "
            "it, or name another folder"
        )


def heading(number: int, text: str) -> None:
    """Prints the title of a step."""
    print(f"\n[{number}/{len(METHODS) + 2}] {text}")


def print_scores(scores: Mapping[str, Scores], images: int) -> None:
    """Prints a table of IoUs per class and mean: every method's, and the gain of the last over the first.

    Args:
        scores: scores by method.
        images: number of scored images.
    """
    # Imported here: slow to import.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(scores.values())
    table = Table("IoU, %", box=SIMPLE_HEAD)
    for name in (*scores, "gain"):
        table.add_column(name, justify="right")

    def add(name: Text, fractions: list[float], style: str = "") -> None:
        gain = delta(fractions[-1], fractions[0])
        color = "green" if gain.startswith("+") else "red" if gain.startswith("−") else ""
        table.add_row(name, *map(percent, fractions), Text(gain, color), style=style)

    for train_id, (name, (red, green, blue)) in enumerate(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True)):
        fractions = [float(column.iou[train_id]) for column in columns]
        if not np.isnan(fractions).all():
            add(Text.assemble(("■ ", f"rgb({red},{green},{blue})"), name), fractions)
    table.add_section()
    for mean in columns[0].means:
        add(Text(mean), [column.means[mean] for column in columns], "bold")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"On {images} camera pictures that no run was trained on. {DRAWN}\n")


def side_by_side(dataset: Dataset, index: int, results: Path) -> Image.Image:
    """Draws an image, its ground truth and each method's prediction in two columns, with captions and a legend."""
    image, truth = dataset.read_pair(index)
    stem = Path(dataset.names[index]).stem
    panels = {"image": resize_image(image, PANEL), "truth": Image.fromarray(CITYSCAPES.colorize(truth))}
    for method in METHODS:
        with Image.open(results / method / f"{stem}_color.png") as color:
            panels[method] = color.convert("RGB")
    (width, height), gap = PANEL, 8
    colors = legend(CITYSCAPES, width=2 * width + 3 * gap)
    sheet = Image.new("RGB", (colors.width, gap + 2 * (height + CAPTION) + colors.height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (title, panel) in enumerate(panels.items()):
        left, top = gap + (width + gap) * (number % 2), gap + (height + CAPTION) * (number // 2)
        sheet.paste(panel.resize(PANEL, Image.Resampling.NEAREST), (left, top + CAPTION - 4))
        draw.text((left, top), title, fill=INK, font=ImageFont.load_default(14))
    sheet.paste(colors, (0, sheet.height - colors.height))
    return sheet
