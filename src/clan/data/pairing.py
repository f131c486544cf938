"""Finds pairs of images and labels in a folder by their paths, and the patterns that match them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clan.data.image_files import IMAGE_SUFFIXES, is_hidden
from clan.data.path_templates import (
    NUMBER,
    SAME,
    SPLIT_WORD,
    TOKENS,
    VARIANT,
    TemplatePair,
    common_length,
    compare,
    ending,
    pattern_of,
    variant_part,
    words_of,
)  # fmt: skip
from clan.datasets.patterns import Pattern, escape, files_below

DECIMAL = re.compile(r"(?<![A-Za-z\d])\d+(?:\.\d+)*")
CAMERA = re.compile(r"cam|left|right|view|stereo|sensor", re.IGNORECASE)

FEWEST_VOTES = 0.1
"""Minimum number of sampled pairs of a kind, as a share of the most frequent kind's."""

SAMPLES, PER_FOLDER = 400, 5
"""Maximum number of sampled files: in total (in units of `PER_FOLDER`), and per folder."""

MOST_PARTNERS = 3000
"""Maximum number of files with a common part of the name that are compared with one file."""

FEW_OWNERS = 100
"""Maximum number of files with a common part of the name that is specific enough to pair them."""

MOST_KINDS, MOST_MATCHES = 40, 2_000_000
"""Number of kinds of pairs counted over all files, and the number of matched paths that allows for more."""

MOST_VARIANTS = 40
"""Maximum number of images with one label."""


@dataclass
class Pairing:
    """Two kinds of files that form pairs.

    Args:
        images, labels: their patterns.
        image_words, label_words: the parts of paths that differ between both.
        pairs: paths of an image and its label.
        unlabelled: paths that match `images` but have no label.
        variants: the values that distinguish images with one label.
    """

    images: str
    labels: str
    image_words: str
    label_words: str
    pairs: list[tuple[str, str]]
    unlabelled: list[str]
    variants: tuple[str, ...] = ()


def list_files(folder: Path) -> list[str]:
    """Paths of all image files below a folder, sorted, without hidden ones; linked folders are listed once.

    Raises:
        DataError: a folder cannot be read.
    """
    found = defaultdict(list)
    for path in files_below(folder):
        if path.lower().endswith(IMAGE_SUFFIXES) and not any(is_hidden(part) for part in path.split("/")):
            found[path.rpartition("/")[0]].append(path)
    owners: dict[Path, str] = {}
    top = folder.resolve()
    real = {where: (folder / where).resolve() for where in sorted(found)}
    for where in sorted(found, key=lambda where: (real[where] != top / where, where.count("/"), where)):
        owners.setdefault(real[where], where)
    return sorted(path for where in owners.values() for path in found[where])


def find_pairings(paths: list[str]) -> list[Pairing]:
    """Finds kinds of files that form pairs, in both orders, sorted by decreasing number of pairs."""
    votes: Counter[TemplatePair] = Counter()
    for first, second in _partners(paths):
        if pair := compare(first, second):
            votes[pair] += 1
            votes[TemplatePair(pair.labels, pair.images)] += 1
    count = max(MOST_KINDS, min(10 * MOST_KINDS, MOST_MATCHES // max(len(paths), 1)))
    ranked = _with_variants(votes).most_common(count)
    kinds = [kind for kind, number in ranked if number >= FEWEST_VOTES * ranked[0][1]]
    ends = sorted({path.rpartition(".")[2] for path in paths})
    counted = (_count(kind, paths, ends) for kind in kinds)
    found = [pairing for pairing in counted if pairing.pairs and Pattern(pairing.images).parts]
    unique = {(pairing.images, pairing.labels): pairing for pairing in found}
    return sorted(unique.values(), key=lambda pairing: -len(pairing.pairs))


def lone_pattern(paths: list[str]) -> str:
    """The pattern of unlabelled images at the most common depth; varying folders become parts."""
    depth = Counter(path.count("/") for path in paths).most_common(1)[0][0]
    files = [PurePosixPath(path) for path in paths if path.count("/") == depth]
    folders: list[str] = []
    for number, values in enumerate(zip(*(file.parts[:-1] for file in files), strict=True)):
        if all((match := SPLIT_WORD.search(value)) and not match.start() for value in values):
            folders.append("{split}" if "{split}" not in folders else f"{{folder_{number}}}")
        else:
            folders.append(escape(values[0]) if len(set(values)) == 1 else f"{{folder_{number}}}")
    if sum("{folder_" in folder for folder in folders) == 1:
        folders = ["{folder}" if "{folder_" in folder else folder for folder in folders]
    tail = files[0].stem[len(files[0].stem) - common_length([file.stem[::-1] for file in files]) :]
    after = match[0] if len(files) > 1 and (match := re.search(r"(?:[_.-][A-Za-z][A-Za-z0-9]*)+$", tail)) else ""
    ends = _compatible([(file.suffix[1:], str(file.with_suffix(""))) for file in files])
    return "/".join([*folders, f"{{name}}{escape(after)}.{ending('end', ends)}"])


# --- Candidate pairs ---


def _sample(paths: list[str]) -> list[str]:
    """Some files of every folder; of every n-th folder if there are many."""
    by_folder = defaultdict(list)
    for path in paths:
        by_folder[path.rpartition("/")[0]].append(path)
    folders = list(by_folder.values())
    folders = folders[:: -(-len(folders) * 2 // SAMPLES) or 1]
    return [path for files in folders for path in [*files[: PER_FOLDER - 1], files[-1]]][: PER_FOLDER * SAMPLES]


def _keys(path: str) -> list[str]:
    """Parts of a file name that its partners may share, longest first; for a plain word, also its folder."""
    stem = PurePosixPath(path).stem
    if stem.isalpha() and "/" in path:
        return [stem, path.rpartition("/")[0] + "/"]
    ends = [match.end() for match in TOKENS.finditer(stem)]
    pieces = {stem[:end] for end in ends} | {stem[end:] for end in [0, *ends[:-1]]}
    digits = any(map(str.isdigit, stem))
    kept = {stem} | {
        piece.strip("_-. ")
        for piece in pieces
        if (any(map(str.isdigit, piece)) if digits else not (piece[0].isalnum() and piece[-1].isalnum()))
    }
    inner = max(re.findall(r"\d{2,}(?:[_-]\d+)*", stem), key=len, default="")
    return sorted((kept | {inner}) - {""}, key=len, reverse=True)


def _partners(paths: list[str]) -> Iterator[tuple[str, str]]:
    """Sampled files, each with files whose names share a part: of each kind, those in the closest folders."""
    sample = {path: _keys(path) for path in _sample(paths)}
    wanted = {key for keys in sample.values() for key in keys}
    owners = defaultdict(list)
    for path in paths:
        for key in _keys(path):
            if key in wanted:
                owners[key].append(path)
    for path, keys in sample.items():
        for members in _closest(path, [(key, owners[key]) for key in keys]):
            for other in members[:50]:
                yield path, other


def _closest(path: str, candidates: list[tuple[str, list[str]]]) -> Iterator[list[str]]:
    """Of the candidate partners of a file, those of each kind in the closest folders.

    Args:
        path: the file.
        candidates: parts of its name, longest first, each with the files that share it.
    """
    stem, folders = PurePosixPath(path).stem, set(path.split("/")[:-1])
    kinds: dict[tuple[int, str, str], tuple[int, list[str]]] = {}
    seen = {path}
    for key, owners in candidates:
        if kinds and len(owners) > FEW_OWNERS:
            break  # too common; longer parts have already found partners
        numbers = NUMBER.findall(stem.replace(key, "", 1))
        for other in owners[:MOST_PARTNERS]:
            if other in seen:
                continue
            seen.add(other)
            *places, name = other.split("/")
            before, _, end = name.rpartition(".")
            left = before.replace(key, "", 1)
            if numbers and numbers != (NUMBER.findall(left) or numbers):
                continue  # two different images
            kind, shared = (len(places), end, left), len(folders.intersection(places))
            best, members = kinds.get(kind, (-1, []))
            if shared >= best:
                kinds[kind] = shared, [*(members if shared == best else []), other]
    return (members for _, members in kinds.values())


def _with_variants(votes: Counter[TemplatePair]) -> Counter[TemplatePair]:
    """Merges kinds whose images differ only by a number that the label's name lacks."""
    families: dict[TemplatePair, list[TemplatePair]] = defaultdict(list)
    for pair in votes:
        masked = DECIMAL.sub("#", pair.images.name)
        families[pair._replace(images=pair.images._replace(name=masked))].append(pair)
    merged: Counter[TemplatePair] = Counter()
    for members in families.values():
        names = sorted(member.images.name for member in members)
        start = re.sub(r"[\d.]*$", "", names[0][: common_length(names)])
        end = re.sub(r"^[\d.]*", "", names[0][len(names[0]) - common_length([name[::-1] for name in names]) :])
        total = sum(votes[member] for member in members)
        if not 1 < len(members) <= MOST_VARIANTS or CAMERA.search(start[-12:]) or SAME not in start:
            merged.update({member: votes[member] for member in members})
            continue
        values = tuple(name[len(start) : len(name) - len(end)] for name in names)
        images = members[0].images._replace(name=start + VARIANT + end)
        merged[TemplatePair(images, members[0].labels, values)] = total
    return merged


# --- Matching all files ---


def _count(kind: TemplatePair, paths: list[str], ends: list[str]) -> Pairing:
    """All files of a kind of pairs, and its patterns with constant parts written out."""
    variant = variant_part(kind.images.name)
    texts = pattern_of(kind.images, kind.variants, "end", ends), pattern_of(kind.labels, (), "label_end", ends)
    images, labels = Pattern(texts[0]), Pattern(texts[1])
    shared = [part for part in images.parts if part in labels.parts]
    truths: dict[tuple[str, ...], list[tuple[str, dict[str, str]]]] = defaultdict(list)
    for path, parts in labels.select(paths, {}):
        truths[tuple(parts[part] for part in shared)].append((path, parts))
    found = list(images.select(paths, {}))
    pairs = [
        (path, parts, truth, truth_parts)
        for path, parts in found
        for truth, truth_parts in truths.get(tuple(parts[part] for part in shared), ())
        if truth != path
    ]
    replaced = {}
    if not kind.images.end and len(ends) > 1:
        image_ends = _compatible([(parts["end"], (truth, parts.get(variant))) for _, parts, truth, _ in pairs])
        label_ends = _compatible([(parts["label_end"], path) for path, _, _, parts in pairs])
        pairs = [pair for pair in pairs if pair[1]["end"] in image_ends and pair[3]["label_end"] in label_ends]
        replaced = {ending("end", ends): ending("end", image_ends),
                    ending("label_end", ends): ending("label_end", label_ends)}  # fmt: skip
    replaced |= _constants([parts for _, parts, _, _ in pairs], shared)
    paired = {path for pair in pairs for path in (pair[0], pair[2])}
    if kind.images.name == SAME:
        names = [parts["name"] for _, parts, _, _ in pairs]
        known = set(names)
        others = [parts["name"] for path, parts in found if path not in paired]
        glob = _restriction(names, [name for name in others if any(name[:end] in known for end in range(1, len(name)))])
        texts = texts[0].replace("{name}", f"{{name:{glob}}}" if glob else "{name}"), texts[1]
    for old, new in replaced.items():
        texts = texts[0].replace(old, new), texts[1].replace(old, new)
    matched = [path for path, _ in Pattern(texts[0]).select([path for path, _ in found], {})]
    return Pairing(
        *texts,
        image_words=words_of(kind.images),
        label_words=words_of(kind.labels),
        pairs=[(pair[0], pair[2]) for pair in pairs],
        unlabelled=[path for path in matched if path not in paired],
        variants=kind.variants,
    )


def _compatible(owners: list[tuple[str, object]]) -> list[str]:
    """The suffixes that one pattern can match, most frequent first, without two files for one owner."""
    by_end = defaultdict(set)
    for end, owner in owners:
        by_end[end].add(owner)
    taken: set[object] = set()
    kept = []
    for end, members in sorted(by_end.items(), key=lambda item: -len(item[1])):
        if not members & taken:
            kept.append(end)
            taken |= members
    return kept


def _constants(values: list[dict[str, str]], shared: list[str]) -> dict[str, str]:
    """Replacements for parts of patterns: the value if there is only one; varying folders are renumbered."""
    free = [part for part in shared if part not in ("split", "name")]
    found = {part: {parts[part] for parts in values} for part in free}
    replaced = {f"{{{part}}}": escape(min(several)) for part, several in found.items() if len(several) == 1}
    varying = [part for part in free if part.startswith("folder") and len(found[part]) > 1]
    for number, part in enumerate(varying, 1):
        replaced[f"{{{part}}}"] = "{folder}" if len(varying) == 1 else f"{{folder_{number}}}"
    return replaced


def _restriction(names: list[str], others: list[str]) -> str:
    """A shell pattern that matches all names and excludes some of the others; empty if there is none."""
    for glob, position in (("*[0-9]", -1), ("[0-9]*", 0)):
        if all(name[position].isdigit() for name in names) and not all(name[position].isdigit() for name in others):
            return glob
    return ""
