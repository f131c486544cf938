"""The commands `clan data check` and `clan data init`."""

import json
from pathlib import Path

from clan.core.errors import ConfigError
from clan.core.files import write_file
from clan.core.output import encoded, one_line, progress
from clan.data.checks import REMARKS, Findings, check
from clan.data.dataset import Dataset, find_splits
from clan.data.domains import load_classes, named_domain, require_splits
from clan.data.pixel_checks import SUSPICIOUS
from clan.datasets.patterns import Pattern
from clan.evaluation.images import save_png
from clan.evaluation.outputs import refuse_clashes
from clan.reporting.bars import percent, print_bars
from clan.reporting.contact_sheet import draw_contact_sheet

OVERLAYS = 10
"""Number of images on a contact sheet."""

SHOWN = 20
"""Number of printed problems per kind; the JSON has all."""


def check_data(
    name: str,
    *,
    split: str | None,
    root: Path | None,
    classes: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> bool:
    """Reads every file of a data set and prints the findings.

    Args:
        name: description file or packaged name.
        split: the split; None: all.
        root: folder of the data set; None: the description's.
        classes: file of classes to merge into; None: the description's own.
        sheet: file of the contact sheet, one per split; None: NAME_SPLIT.png in the working folder.
        as_json: print only JSON.

    Returns:
        Whether all files can be used.

    Raises:
        ClanError: the description is invalid, or there are no images.
    """
    named = named_domain(name)
    require_splits(named.description, split)
    root = root or named.root
    merged = load_classes(classes) if classes else named.classes
    found = find_splits(named.description, root)
    splits = [split] if split else found or ["train"]
    titles = {each: f"{named.description.name} {each}" if found else named.description.name for each in splits}
    pictures = {each: _sheet_path(sheet, titles[each], each if len(splits) > 1 else "") for each in splits}
    patterns = filter(None, (named.description.images, named.description.labels))
    files = (root / path for pattern in patterns for path, _ in Pattern(pattern).find(root, {}))
    refuse_clashes(((titles[each], pictures[each]) for each in splits), files)
    report, ok = {}, True
    for number, each in enumerate(splits):
        dataset = Dataset(named.description, root, split=each, classes=merged)
        title, picture = titles[each], pictures[each]
        with progress(f"reading {title}", len(dataset)) as advance:
            findings = check(dataset, on_image=advance)
        save_png(draw_contact_sheet(dataset, _spread(len(dataset)), f"{title}: {len(dataset)} images"), picture)
        ok = ok and findings.ok
        report[each] = findings.to_json() | {"contact_sheet": str(picture)}
        if not as_json:
            print("\n" * (number > 0) + f"{title}, in {dataset.image_root}")
            _print(findings, dataset)
            print(f"  overlays in {picture}")
    if as_json:
        print(json.dumps({"name": named.description.name, "ok": ok, "splits": report}, indent=2))
    return ok


def _sheet_path(given: Path | None, title: str, split: str) -> Path:
    if given and not split:
        return given
    folder, name = (given.parent, f"{given.stem}_{split}") if given else (Path(), title.replace(" ", "_"))
    return folder / f"{name.replace('/', '_')}.png"


def _spread(count: int) -> list[int]:
    """Returns `OVERLAYS` evenly spaced indices."""
    return sorted({round(k * (count - 1) / max(OVERLAYS - 1, 1)) for k in range(OVERLAYS)})


def _print(findings: Findings, dataset: Dataset) -> None:
    pairs = f"{findings.labels} with a label" if dataset.labelled else "no labels described"
    if dataset.labelled and not dataset.has_any_label:
        pairs = "none with a label: fit for a target"
    print(f"  {findings.images} images, {pairs}")
    for remark in findings.list_remarks:
        print(f"  {remark}")
    _print_some("classes without a name: write what each one is in the description", findings.unnamed)
    _print_some("could not be used", findings.problems)
    unknown = [
        f"{code} in {stray.pixels:,} pixels of {stray.files} files, first {stray.first}"
        for code, stray in sorted(findings.strays.items(), key=lambda item: -item[1].pixels)
    ]
    _print_some("that no class and no ignore names", unknown)
    _print_some("labels without an image (not an error)", findings.orphans)
    for remark, names in findings.remarks.items():
        _print_some(f"of {findings.images} images are {remark} ({REMARKS[remark]})", names)
    shown = ", ".join(f"{width}x{height} ({count})" for (width, height), count in findings.sizes.most_common(5))
    further = f" and {len(findings.sizes) - 5} more" if len(findings.sizes) > 5 else ""
    print(f"  sizes: {shown}{further}")
    print("  mean of red, green, blue: " + ", ".join(f"{value:.2f}" for value in findings.mean))
    print("  deviation: " + ", ".join(f"{value:.2f}" for value in findings.std))
    if findings.labels:
        space = dataset.classes.label_space
        total = findings.ignored + int(findings.pixels.sum())
        print(
            f"  ignored: {100 * findings.ignored / max(total, 1):.2f} % of pixels; of the others, and how often "
            "rare-class sampling draws each:"
        )
        columns = {
            "images": [f"{count:6}" for count in findings.holders],
            "drawn": [percent(float(share)) for share in findings.probabilities],
        }
        print_bars(space.names, [float(share) for share in findings.frequencies], space.colors, columns)
    alike = ", but see above which images are all alike" if SUSPICIOUS.intersection(findings.remarks) else ""
    print(f"  everything can be used{alike}" if findings.ok else "  NOT everything can be used: see above")


def _print_some(what: str, lines: list[str]) -> None:
    if lines:
        print(f"  {len(lines)} {what}:")
        for line in lines[:SHOWN]:
            print(f"    {one_line(line)}")
        if len(lines) > SHOWN:
            print(f"    … and {len(lines) - SHOWN} more; --json lists all")


def init_data(folder: Path, output: Path | None) -> Path:
    """Writes a proposed description of a folder.

    Args:
        folder: folder with images and possibly labels.
        output: file to write; None: FOLDER.yaml in the working folder.

    Raises:
        ClanError: the folder has no images, or the file exists already or cannot be written.
    """
    from clan.data.proposal import propose

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name the one that holds images and labels")
    output = output or Path(f"{folder.resolve().name}.yaml")
    if output.exists():
        raise ConfigError(f"{output} exists already: name another file with -o")
    proposal = propose(folder, relative_to=output.resolve().parent)
    write_file(output, encoded(proposal.text), "name another file with -o")
    for line in proposal.seen:
        print(one_line(line))
    naming = "give its classes their names, then " if proposal.unnamed else ""
    print(f"saved {output}: {naming}run clan data check {output}")
    return output
