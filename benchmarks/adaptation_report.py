"""Tables in Markdown and a sheet of predictions from the records of `adaptation.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from adaptation_experiments import FINAL, PAIRS
from PIL import Image, ImageDraw, ImageFont

from clan.data.dataset import Dataset
from clan.data.image_files import read_id_label

ROWS = 8
"""Images on a sheet, evenly spread over the split."""

TILE, TITLE = 240, 24


def compact_json(value: object) -> str:
    """Indented JSON with lists of plain values on one line each."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text) + "\n"


# --- Tables -------------------------------------------------------------------------------------------------


def write_tables(results: Path, document: Path) -> None:
    """Puts every table between its marks in the document: `<!-- NAME -->` … `<!-- end of NAME -->`."""
    text = document.read_text(encoding="utf-8")
    for pair in PAIRS:
        for name, folder, table in (
            (pair, results / pair, final_tables),
            (f"{pair} tuning", results / "tuning" / pair, tuning_table),
        ):
            records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
            written = table(records) if records else "No run is recorded yet."
            text = between_marks(text, name, written)
    document.write_text(text, encoding="utf-8")


def between_marks(text: str, name: str, written: str) -> str:
    """The text of a page with something else between the marks of a name.

    Raises:
        SystemExit: the marks are not there once.
    """
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    text, count = marks.subn(lambda match: f"{match[1]}\n{written}\n\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"the page must hold <!-- {name} --> … <!-- end of {name} --> once")
    return text


def final_tables(records: Sequence[dict]) -> str:
    """mIoU of every method on test and the unseen drive, what it closes of the gap, per class, and its course."""
    groups = {name: [record for record in records if record["experiment"] == name] for name in FINAL}
    groups = {name: group for name, group in groups.items() if group}
    overview = [
        "| method | seeds | CamVid test | gap closed | Seq05VD | CamVid val | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        minutes = mean(sum(record["seconds"].values()) for record in group) / 60
        test, seq, val = (spread(miou(group, split)) for split in ("test", "test-seq05vd", "val"))
        overview.append(
            f"| {name} | {len(group)} | {test} | {gap_closed(groups, name)} | {seq} | {val} | {minutes:.1f} |"
        )
    classes = list(records[0]["scores"]["test"]["IoU"])
    per_class = [f"| CamVid test, IoU | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|"]
    for name, group in groups.items():
        ious = [spread([100 * record["scores"]["test"]["IoU"][each] for record in group]) for each in classes]
        per_class.append(f"| {name} | {' | '.join(ious)} |")
    return "\n".join([*overview, "", *per_class, "", *course_table(groups), "", circumstances(records)])


def course_table(groups: Mapping[str, Sequence[dict]]) -> list[str]:
    """mIoU along the runs, on the images of val that they were watched on; earlier records do not have it."""
    courses = {name: [one["course"] for one in group if "course" in one] for name, group in groups.items()}
    courses = {name: of_runs for name, of_runs in courses.items() if of_runs}
    iterations = list(dict.fromkeys(each for of_runs in courses.values() for one in of_runs for each in one))
    lines = [f"| while training, runs | {' | '.join(iterations)} |", "|---" * (len(iterations) + 1) + "|"]
    for name, of_runs in courses.items():
        means = [f"{100 * mean(one[each] for one in of_runs):.1f}" for each in iterations]
        lines.append(f"| {name}, {len(of_runs)} | {' | '.join(means)} |")
    return lines if courses else []


def tuning_table(records: Sequence[dict]) -> str:
    """mIoU on val of every run, best first, with what it lost each class."""
    classes = list(records[0]["scores"]["val"]["IoU"])
    lines = [f"| experiment | seed | mIoU | {' | '.join(classes)} | minutes |", "|---" * (len(classes) + 4) + "|"]
    for record in sorted(records, key=lambda record: -record["scores"]["val"]["mIoU"]):
        found = record["scores"]["val"]
        ious = " | ".join(f"{100 * found['IoU'][each]:.1f}" for each in classes)
        minutes = sum(record["seconds"].values()) / 60
        lines.append(
            f"| {record['experiment']} | {record['seed']} | {100 * found['mIoU']:.1f} | {ious} | {minutes:.1f} |"
        )
    return "\n".join([*lines, "", circumstances(records)])


def miou(group: Sequence[dict], split: str) -> list[float]:
    """In percent."""
    return [100 * record["scores"][split]["mIoU"] for record in group]


def spread(values: Sequence[float]) -> str:
    """Mean ± sample deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def gap_closed(groups: Mapping[str, Sequence[dict]], name: str) -> str:
    """Of the means, how far from source-only (0 %) to oracle (100 %)."""
    if not {"source-only", "oracle"} <= set(groups):
        return "–"
    low, own, high = (mean(miou(groups[each], "test")) for each in ("source-only", name, "oracle"))
    return f"{100 * (own - low) / (high - low):.0f} %"


def circumstances(records: Sequence[dict]) -> str:
    """When, on what machine and with what revision."""
    days = sorted({record["started"][:10] for record in records})
    machines = sorted(
        {f"{record['machine']['cpu']}, {record['machine']['cores']} of its cores to a run" for record in records}
    )
    versions = sorted({f"PaddlePaddle {record['machine']['paddle']}" for record in records})
    revisions = sorted({record["revision"] for record in records})
    dates = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{dates}; {'; '.join(machines)}; {', '.join(versions)}; revision {', '.join(revisions)}."


# --- Pictures -----------------------------------------------------------------------------------------------


def side_by_side(dataset: Dataset, predictions: Mapping[str, Path]) -> Image.Image:
    """Some images of a split in rows: input, truth, and each prediction, in the classes' colours."""
    indices = np.linspace(0, len(dataset) - 1, ROWS).astype(int)
    width, height = dataset.stored_size(0)
    size = (TILE, round(TILE * height / width))
    titles = ["input", "truth", *predictions]
    sheet = Image.new("RGB", (TILE * len(titles), TITLE + ROWS * size[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        draw.text((column * TILE + 6, 3), title, fill="black", font=font)
    for row, index in enumerate(indices):
        maps = [dataset.read_label(index)]
        maps += [read_id_label(folder / f"{dataset.stems[index]}.png") for folder in predictions.values()]
        colored = [Image.fromarray(dataset.classes.label_space.colorize(ids)) for ids in maps]
        for column, picture in enumerate([dataset.read_image(index), *colored]):
            sheet.paste(picture.resize(size), (column * TILE, TITLE + row * size[1]))
    return sheet
