"""From the data sets and classes that a command line names to what a run or an evaluation needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from clan.core.errors import ConfigError, of_domain
from clan.core.schema import build
from clan.data.dataset import Dataset, find_splits
from clan.data.image_files import image_size
from clan.datasets import (
    CITYSCAPES_CLASSES,
    PACKAGED,
    Classes,
    Description,
    classes_of,
    load_classes,
    load_description,
    packaged,
    placeholders,
)
from clan.run.config import Config
from clan.run.presets import DEFAULT_ROOTS
from clan.run.records import located
from clan.run.snapshots import require_weights
from clan.run.weights_config import config_of

DESCRIPTION_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class NamedDomain:
    """A data set that somebody named.

    Args:
        description: what it is.
        root: its folder.
        size: width and height to train at, if its file says.
        classes: its own classes.
    """

    description: Description
    root: Path
    size: tuple[int, int] | None
    classes: Classes


def named_domain(name: str) -> NamedDomain:
    """A data set by its packaged name, or by its description file.

    Raises:
        ConfigError: there is no such one, or the file does not fit.
    """
    if name.lower() in PACKAGED:
        return NamedDomain(packaged(name.lower()), DEFAULT_ROOTS[name.lower()], None, CITYSCAPES_CLASSES)
    if not name.endswith(DESCRIPTION_SUFFIXES):
        raise ConfigError(f"{name!r} is neither a description file (.yaml) nor one of {', '.join(PACKAGED)}")
    file = load_description(Path(name))
    return NamedDomain(file.description, file.root, file.size, classes_of(file))


def between(
    base: Config,
    domains: Mapping[str, str | None],
    classes: Path | None,
    *,
    roots: Mapping[str, str | None] = MappingProxyType({}),
    notify: Callable[[str], None] = print,
) -> Config:
    """A configuration with other domains, other classes, or both.

    Without a file of classes, a described source brings its own.

    Args:
        base: what everything else is taken from.
        domains: "source" and "target": packaged names or description files; None: those of `base`.
        classes: file or name of the classes; None: the source's own, or those of `base`.
        roots: folders instead of those that the descriptions name.
        notify: takes sentences for the user.

    Raises:
        ClanError: a file does not fit, or a domain has no images.
    """
    values = base.model_dump()
    merged = base.classes
    for role, name in domains.items():
        if name is None:
            continue
        named = named_domain(name)
        root = Path(roots.get(role) or named.root)
        values[role] = {"dataset": named.description, "root": root, "size": named.size or values[role]["size"]}
        if named.description.name not in PACKAGED:
            split = choose_split(named.description, root, "train")
            values[role]["split"] = split
            if named.size is None:
                with of_domain(role):
                    values[role]["size"] = image_size(Dataset(named.description, root, split=split).image_path(0))
        if role == "source":
            merged = named.classes
    merged = load_classes(classes) if classes else merged
    values["classes"] = merged
    values["network"]["num_classes"] = len(merged.classes)
    config = build(Config, values)
    check_merges(config, notify)
    if any(domains.values()):
        folder = Path("snapshots") / f"{config.source.dataset.name}2{config.target.dataset.name}"
        return config.model_copy(update={"snapshot_dir": folder})
    return config


def check_merges(config: Config, notify: Callable[[str], None]) -> None:
    """Names that nothing has are an error; what is left out on either side is said.

    Raises:
        ConfigError: the classes merge a name that neither domain has, none of them is in the source, or the source has
            no labels.
    """
    source, target = config.source.dataset, config.target.dataset
    require_names(source, target, classes=config.classes)
    if source.labels is None:
        raise ConfigError(
            f"the source {source.name} has no labels to learn from: give its description a labels pattern"
        )
    labelled = [source, target] if target.classes else [source]
    # A target without labels may still be merged by names that only its later ground truth has.
    if strange := config.classes.strange(*labelled) if target.classes else []:
        raise ConfigError(
            f"the classes merge {strange[0]}, a name that no class of {source.name} or {target.name} bears: "
            "is it mistyped?"
        )
    for description in labelled:
        if ignored := config.classes.unmerged(description):
            notify(f"{description.name}: pixels of {', '.join(ignored)} are ignored, since no class takes them")
    absent = config.classes.absent(source)
    if len(absent) == len(config.classes.classes):
        raise ConfigError(
            f"none of the classes is in the source {source.name}, which has {', '.join(source.classes)}: all its "
            "pixels would be ignored; write the classes that both domains share and name them with --classes"
        )
    if absent:
        notify(f"{', '.join(absent)} never occurs in {source.name}: nothing can teach it")


def evaluation_dataset(
    weights: Path,
    *,
    domain: str | None,
    data_dir: Path | None,
    data_list: Path | None,
    split: str | None,
    classes: Path | None = None,
) -> Dataset:
    """The images to evaluate weights on: by default the target of the run that they are from.

    Args:
        weights: a snapshot, or a folder of them, with or without their run's configuration; see
            `clan.run.weights_config`.
        domain: packaged name or description file instead of the run's target.
        data_dir: folder instead of the one that the run or the description names.
        data_list: text file of image names.
        split: None: val where there is one, else test.
        classes: file or name of the classes that the weights know, for weights without a `config.yaml`.

    Raises:
        ClanError: a file does not fit, or there are no images.
    """
    known = trained_classes(weights, classes)
    run, folder = config_of(weights), weights if weights.is_dir() else weights.parent
    if domain or not run:
        named = named_domain(domain or "cityscapes")
        require_names(named.description)
        description, root, known = named.description, data_dir or named.root, known or named.classes
    else:
        description, root = run.target.dataset, data_dir or located(run.target.root, folder, run)
    require_splits(description, split)
    require_weights(weights)
    split = split or choose_split(description, root, "val", "test")
    return Dataset(description, root, list_file=data_list, split=split, classes=known or CITYSCAPES_CLASSES)


def trained_classes(weights: Path, given: Path | None = None) -> Classes | None:
    """The classes that weights were trained on: those of their run's configuration, else those that are given.

    Raises:
        ConfigError: both are there and differ.
    """
    run, named = config_of(weights), load_classes(given) if given else None
    known = run.classes if run else named
    if known and named and not named.agrees(known):
        raise ConfigError(
            f"{weights} was trained on the {known.title}, as its run's configuration says: leave --classes {given} out"
        )
    return known


def require_names(*descriptions: Description, classes: Classes | None = None) -> None:
    """Refuses classes whose names `clan data init` has made up: two of them would be taken for the same thing.

    Raises:
        ConfigError: names them, and where they stand.
    """
    where = {description.name: list(description.classes) for description in descriptions}
    if classes:
        where["the file of classes"] = [*classes.owners]
    for name, names in where.items():
        if unnamed := placeholders(names):
            shown = ", ".join(unnamed[:5]) + " …" * (len(unnamed) > 5)
            raise ConfigError(
                f"{shown} in {name} {'are' if len(unnamed) > 1 else 'is'} not named yet: write what each one is, "
                "as the pictures of clan data check show it, and call what both domains have by one name"
            )


def require_splits(description: Description, split: str | None) -> None:
    """Refuses a split of a data set that has none.

    Raises:
        ConfigError: the split would have no effect.
    """
    if split is not None and not description.has_splits:
        raise ConfigError(f"{description.name} has no splits: leave --split {split} out")


def choose_split(description: Description, root: Path, *wanted: str) -> str:
    """The split that is called, or at least begins, like the first of the wanted ones that there is.

    Without any such one it is the first split; without splits, the first wanted name, which means nothing then.
    """
    splits = find_splits(description, root)
    for name in wanted:
        for split in [name] * (name in splits) + splits:
            if split.lower().startswith(name):
                return split
    return splits[0] if splits else wanted[0]
