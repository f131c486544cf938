"""Resolves names of data sets and classes to the configuration of a run or the data set of an evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
from clan.run.config import Config, DomainConfig
from clan.run.folder import require_weights
from clan.run.presets import DEFAULT_ROOTS
from clan.run.records import located
from clan.run.weights_config import config_of

DESCRIPTION_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class NamedDomain:
    """A data set resolved from a name or a description file.

    Args:
        description: the description.
        root: the data set's folder.
        size: width and height to train at; None: not given.
        classes: the data set's own classes.
    """

    description: Description
    root: Path
    size: tuple[int, int] | None
    classes: Classes


def named_domain(name: str) -> NamedDomain:
    """Resolves the name of a packaged data set or the path of a description file.

    Raises:
        ConfigError: the name is unknown, or the file is invalid.
    """
    if name.lower() in PACKAGED:
        return NamedDomain(packaged(name.lower()), DEFAULT_ROOTS[name.lower()], None, CITYSCAPES_CLASSES)
    if not name.endswith(DESCRIPTION_SUFFIXES):
        raise ConfigError(f"{name!r} is neither a description file (.yaml) nor one of {', '.join(PACKAGED)}")
    file = load_description(Path(name))
    return NamedDomain(file.description, file.root, file.size, classes_of(file))


def config_for_domains(
    base: Config,
    domains: Mapping[str, str | None],
    classes: Path | None,
    *,
    roots: Mapping[str, str | None] = MappingProxyType({}),
    notify: Callable[[str], None] = print,
) -> Config:
    """A configuration with other domains, other classes, or both.

    Args:
        base: provides all other values.
        domains: "source" and "target": packaged name or description file; None: the domain of `base`.
        classes: file or name of the classes; None: those of the given source, else those of `base`.
        roots: folders by role, overriding those of the descriptions.
        notify: called with sentences for the user.

    Returns:
        The configuration. Options are not checked against each other, such as crops against the size of images: flags
        may yet change both.

    Raises:
        ClanError: a file is invalid, or a domain has no images.
    """
    changes: dict[str, Any] = {}
    merged = base.classes
    for role, name in domains.items():
        if name is None:
            continue
        named = named_domain(name)
        root = Path(roots.get(role) or named.root)
        kept = getattr(base, role).model_dump(include={"size", "sampling", "rare_class"})
        values = kept | {"dataset": named.description, "root": root}
        if named.size:
            values["size"] = named.size
        if name.lower() not in PACKAGED:  # a file of one's own may be called cityscapes.yaml
            split = choose_split(named.description, root, "train")
            values["split"] = split
            if not split.lower().startswith("train"):
                notify(
                    f"the {role} {named.description.name} has no split train: its split {split} is trained on, unless "
                    f"--{role}.split names another"
                )
            if named.size is None:
                with of_domain(role):
                    values["size"] = image_size(Dataset(named.description, root, split=split).image_path(0))
        changes[role] = build(DomainConfig, values, f"the options of the {role}")
        if role == "source":
            merged = named.classes
    merged = load_classes(classes) if classes else merged
    changes["classes"] = merged
    changes["network"] = base.network.changed(num_classes=len(merged.classes))
    config = base.model_copy(update=changes)
    check_classes(config, notify)
    if any(domains.values()):
        folder = Path("snapshots") / f"{config.source.dataset.name}2{config.target.dataset.name}"
        return config.model_copy(update={"snapshot_dir": folder})
    return config


def check_classes(config: Config, notify: Callable[[str], None]) -> None:
    """Checks that a configuration's classes fit its domains; notifies of ignored and absent classes.

    Raises:
        ConfigError: the classes merge a name that neither domain has, none of them is in the source, or the source has
            no labels.
    """
    source, target = config.source.dataset, config.target.dataset
    require_names(source, target, classes=config.classes)
    if source.labels is None:
        raise ConfigError(
            f"the source {source.name} has no labels to train on: add a labels pattern to its description"
        )
    labelled = [source, target] if target.classes else [source]
    # The classes may name those of a ground truth that is added later to a target without labels.
    if unknown := config.classes.unknown_names(*labelled) if target.classes else []:
        raise ConfigError(
            f"the classes merge {unknown[0]}, which is no class of {source.name} or {target.name}: correct the name"
        )
    for description in labelled:
        if ignored := config.classes.unmerged(description):
            notify(f"{description.name}: pixels of {', '.join(ignored)} are ignored, since no class includes them")
    absent = config.classes.absent(source)
    if len(absent) == len(config.classes.classes):
        raise ConfigError(
            f"none of the classes is in the source {source.name}, which has {', '.join(source.classes)}: all its "
            "pixels would be ignored; write a file of the shared classes and pass it as --classes"
        )
    if absent:
        notify(f"{', '.join(absent)} never occurs in {source.name}: it cannot be learned")


def evaluation_dataset(
    weights: Path,
    *,
    domain: str | None,
    data_dir: Path | None,
    data_list: Path | None,
    split: str | None,
    classes: Path | None = None,
) -> Dataset:
    """The data set to evaluate weights on: by default the target of their run.

    Args:
        weights: a snapshot or a folder of snapshots, with or without the run's configuration; see
            `clan.run.weights_config`.
        domain: packaged name or description file; None: the run's target, else Cityscapes.
        data_dir: the data set's folder; None: that of the run or the description.
        data_list: text file of image names; None: all images of the split.
        split: None: val if there is one, else test.
        classes: file or name of the classes of the weights, for weights without a `config.yaml`.

    Raises:
        ClanError: a file is invalid, or there are no images.
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
    """The classes that weights were trained on: those of the run's configuration, else the given ones, else None.

    Raises:
        ConfigError: the given classes differ from the run's.
    """
    run, named = config_of(weights), load_classes(given) if given else None
    known = run.classes if run else named
    if known and named and not named.agrees(known):
        raise ConfigError(
            f"{weights} was trained on the {known.title} according to its run's configuration: omit --classes {given}"
        )
    return known


def require_names(*descriptions: Description, classes: Classes | None = None) -> None:
    """Refuses placeholder names such as class_7 from `clan data init`, which would match across data sets by accident.

    Raises:
        ConfigError: a description or the classes contain one.
    """
    where = {description.name: list(description.classes) for description in descriptions}
    if classes:
        where["the classes file"] = [*classes.owners]
    for name, names in where.items():
        if unnamed := placeholders(names):
            shown = ", ".join(unnamed[:5]) + " …" * (len(unnamed) > 5)
            raise ConfigError(
                f"{shown} in {name} {'are' if len(unnamed) > 1 else 'is'} not named yet: replace each placeholder by "
                "the class shown in the pictures of clan data check, with the same name in both domains"
            )


def require_splits(description: Description, split: str | None) -> None:
    """Refuses a split, which would have no effect, if the data set has none.

    Raises:
        ConfigError: a split is given and the description has none.
    """
    if split is not None and not description.has_splits:
        raise ConfigError(f"{description.name} has no splits: omit --split {split}")


def choose_split(description: Description, root: Path, *wanted: str) -> str:
    """Chooses a split: for each wanted name in order, the split of that name, else one that begins with it.

    If none matches, returns the first split; for a data set without splits, the first wanted name.
    """
    splits = find_splits(description, root)
    for name in wanted:
        for split in [name] * (name in splits) + splits:
            if split.lower().startswith(name):
                return split
    return splits[0] if splits else wanted[0]
