"""`clan suggest`: ranks target images that are worth labelling."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from clan.cli.flags import DeviceFlags
from clan.core.errors import LESS_MEMORY
from clan.core.output import speak

if TYPE_CHECKING:
    from clan.data.dataset import Dataset
    from clan.evaluation.suggestion import Impressions, Suggestion
    from clan.run.config import Config


def suggest(
    run: Path,
    /,
    *,
    count: Annotated[int, "-n"] = 20,
    output: Annotated[Path | None, "-o"] = None,
    weights: Path | None = None,
    json: bool = False,
    where: DeviceFlags,
) -> None:
    """Rank target images that are worth labelling, and write their names to a list for clan train --target-labels.

    Args:
        run: folder of a run.
        count: number of images.
        output: the list, replaced if it exists; without it, suggested.txt in the run's folder.
        weights: snapshot of the run that looks at the images; without it, the one chosen by clan select, else the last.
        json: print JSON instead of text.
        where: the device.
    """
    speak(
        {
            "--target.root": "another folder in the run's config.yaml",
            LESS_MEMORY: "stop other programs that use it, or compute on the CPU by --device cpu",
        }
    )
    from clan.run.folder import require_weights
    from clan.run.records import read_run

    require_weights(weights or run)
    config = read_run(run).config
    where.select()
    from clan.core.files import as_json
    from clan.evaluation.suggestion import as_list, open_target, require_count
    from clan.evaluation.suggestion import suggest as rank

    dataset, known = open_target(config, run)
    require_count(count, dataset, known)
    snapshot = weights or usual_snapshot(run)
    found = rank(look_at(dataset, snapshot, config), count, known)
    place = output or run / "suggested.txt"
    # The list is for `--target-labels`: none of the images learnt already is to be lost.
    listed = [*known, *(one.index for one in found)]
    content = as_list([dataset.names[index] for index in listed], dataset.image_root)
    write_list(place, content, replace=output is not None)
    if json:
        rows = [{"image": dataset.names[one.index], **vars(one)} for one in found]
        print(as_json({"snapshot": str(snapshot), "list": str(place), "images": rows}).decode())
        return
    print(f"{len(dataset)} images of {dataset.image_root}, looked at by {snapshot}")
    print(table(found, dataset.names))
    learnt = f", with the {len(listed) - len(found)} images learnt already" if known else ""
    train = f"clan train --config {run}/config.yaml --target-labels {place}"
    print(f"wrote {place}{learnt}: label these images, then {train}")


def look_at(dataset: "Dataset", snapshot: Path, config: "Config") -> "Impressions":
    """Looks at all images with a snapshot of a run, with progress.

    Raises:
        ClanError: the snapshot or an image cannot be read, or what the snapshot predicts is not finite.
    """
    from clan.core.output import progress
    from clan.evaluation.finite import of_network
    from clan.evaluation.inference import EvaluationOptions
    from clan.evaluation.label_maps import load_segmenter
    from clan.evaluation.suggestion import look

    segmenter = load_segmenter(snapshot, config.network)
    options = EvaluationOptions.of_run(config, config.target.dataset)
    with (
        of_network(snapshot, "name another with --weights"),
        progress("looking at target images", len(dataset)) as advance,
    ):
        return look(segmenter, dataset, options, on_image=advance)


def table(found: Sequence["Suggestion"], names: Sequence[str]) -> str:
    """Formats suggestions, one a line; `names` are those of all images."""
    lines = ["entropy  disagreement  rarity  distance  image"]
    for one in found:
        numbers = f"{one.entropy:7.4f}  {one.disagreement:12.4f}  {one.rarity:6.3f}  {one.distance:8.3f}"
        lines.append(f"{numbers}  {names[one.index]}")
    return "\n".join(lines)


def write_list(path: Path, content: bytes, *, replace: bool) -> None:
    """Writes a list; another one of the same name only if it may be replaced.

    Raises:
        ConfigError: there is another list, which the configuration of a run may name.
        DataError: writing failed.
    """
    from clan.core.errors import ConfigError
    from clan.core.files import UnfitFile, read_whole, write_file
    from clan.data.lists import LARGEST_LIST

    with suppress(OSError, UnfitFile):  # there is none
        if not replace and read_whole(path, LARGEST_LIST) != content:
            raise ConfigError(f"{path} lists other images, which a run may be learning: name another file with -o")
    write_file(path, content, "name another file with -o")


def usual_snapshot(run: Path) -> Path:
    """The snapshot that `clan select` chose, if it still is there, else the last one by iteration.

    Raises:
        ClanError: there is none, or what was chosen cannot be read.
    """
    from clan.evaluation.selection import read_selection
    from clan.run.folder import find_snapshots

    chosen = read_selection(run)
    snapshots = find_snapshots(run)
    if chosen is not None:
        name = chosen.snapshots[chosen.chosen].snapshot
        if (path := run / name).is_file():
            return path
    return max(snapshots, key=lambda one: -1 if one.iteration is None else one.iteration).path
