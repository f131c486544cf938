"""`clan select`: chooses a snapshot, or among runs, without labels of the target."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clan.cli.flags import DeviceFlags
from clan.core.errors import LESS_MEMORY, ConfigError
from clan.core.output import speak

if TYPE_CHECKING:
    from clan.evaluation.judging import Place
    from clan.evaluation.selection import Selection


def select(
    runs: tuple[Path, ...],
    /,
    *,
    criterion: str | None = None,
    images: int = 100,
    data_dir: Path | None = None,
    data_dir_target: Path | None = None,
    json: bool = False,
    where: DeviceFlags,
) -> None:
    """Choose a run's snapshot without labels of the target; of several runs, the best one.

    Args:
        runs: folders of runs, finished or running; measurements are kept in each run's folder select.
        criterion: what chooses: ensemble, averaged, teacher, heads, consistency, snd, information, entropy or source;
            without it, consistency.
        images: number of images of each domain, evenly spread; 0 for all.
        data_dir: the source's folder; without it, the run's.
        data_dir_target: the target's folder; without it, the run's.
        json: print JSON instead of text.
        where: the device.
    """
    speak(
        {
            "--source.root": "--data-dir",
            "--target.root": "--data-dir-target",
            LESS_MEMORY: "stop other programs that use it, or compute on the CPU by --device cpu",
        }
    )
    from clan.evaluation.criteria import CRITERIA

    if criterion is not None and criterion not in CRITERIA:
        raise ConfigError(f"{criterion!r} is not a criterion: there are {', '.join(CRITERIA)}")
    if images < 0:
        raise ConfigError(f"--images {images} is no number of images: give 1 or more, or 0 for all")
    if len({run.resolve() for run in runs}) < len(runs):
        raise ConfigError("a run is named twice: name every run once")
    where.select()
    from clan.evaluation.judging import judge_runs, rank_runs
    from clan.evaluation.selection import write_selection

    judged = []
    roots = {"data_dir": data_dir, "data_dir_target": data_dir_target}
    for one in judge_runs(runs, images=images, criterion=criterion, **roots):
        judged.append(one)
        if not json:
            show_selection(one.folder, one.selection)
    places = rank_runs(judged, criterion) if len(judged) > 1 else []
    if json:
        print_json([(one.folder, one.selection) for one in judged], places)
    elif places:
        show_ranking(places)
    for one in judged:  # last: what was measured is shown even if it cannot be written
        write_selection(one.folder, one.selection)


def show_selection(run: Path, selection: "Selection") -> None:
    """Prints a run's snapshots with all criteria, and which one is chosen."""
    print(f"{run}: {len(selection.snapshots)} snapshots, judged on {selection.images}")
    rows = []
    for index, one in enumerate(selection.snapshots):
        mark = "*" if index == selection.chosen else ""
        rows.append([f"{mark}{one.snapshot}", *_numbers(one.values, selection.names)])
    choices = [selection.snapshots[selection.choice_of(name)].iteration for name in selection.names]
    rows.append(["chosen iteration", *("–" if one is None else str(one) for one in choices)])
    _table(["snapshot", *selection.names], rows)
    for warning in selection.warnings:
        print(f"warning: {warning}")
    how = f"chosen by {selection.criterion}" if len(selection.snapshots) > 1 else "the only snapshot"
    print(f"{how}: {run / selection.snapshots[selection.chosen].snapshot}")


def show_ranking(places: Sequence["Place"]) -> None:
    """Prints runs in their order."""
    names = [name for name in places[0].values if all(name in place.values for place in places)]
    print(f"\n{len(places)} runs, each by its chosen snapshot, the best first")
    _table(["snapshot", *names], [[str(place.snapshot), *_numbers(place.values, names)] for place in places])
    print(f"chosen: {places[0].snapshot}")


def print_json(selections: Sequence[tuple[Path, "Selection"]], places: Sequence["Place"]) -> None:
    """Prints the records of all selections, and the order of several runs."""
    from clan.core.files import as_json

    found: dict[str, object] = {"runs": [{"run": str(run), **one.record()} for run, one in selections]}
    if places:
        found["ranking"] = [{"snapshot": str(place.snapshot), "values": dict(place.values)} for place in places]
    print(as_json(found).decode())


def _numbers(values: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [f"{values[name]:.4f}" for name in names]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print(
            row[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)),
            sep="  ",
        )
