"""Reads thousands of mutated weight files; reports all that are neither refused nor loaded correctly.

    python -m benchmarks.fuzz_weights [--files 10000] [--seed 0] [--keep FOLDER]

File number n of a format depends only on the seed. Mutations are aware of the formats: they replace pickle
instructions, edit lengths, and update checksums and header lengths that would otherwise stop the reader early.
"""

import argparse
import io
import pickletools
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.models.forge import honest_files, safetensors, zipped
from tests.models.malicious import GADGETS
from tests.models.sandbox import Sandbox

LARGEST = 100_000  # bytes: repetitions of repetitions grow fast
Mutation = Callable[[random.Random, bytes], bytes]

SEEDS = honest_files()

NUMBERS = (
    0,
    1,
    2,
    -1,
    -2,
    127,
    255,
    1 << 15,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
)
"""What lengths, counts and offsets break on."""


# --- Mutations of any bytes ---


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace(rng: random.Random, data: bytes) -> bytes:
    at, length = _chunk(rng, data)
    return data[:at] + rng.randbytes(length) + data[at + length :]


def insert(rng: random.Random, data: bytes) -> bytes:
    at, length = _chunk(rng, data)
    return data[:at] + rng.randbytes(length) + data[at:]


def remove(rng: random.Random, data: bytes) -> bytes:
    at, length = _chunk(rng, data)
    return data[:at] + data[at + length :]


def repeat(rng: random.Random, data: bytes) -> bytes:
    at, length = _chunk(rng, data)
    to = rng.randint(0, len(data))
    return data[:to] + data[at : at + length] * rng.choice((1, 1, 1, 100)) + data[to:]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def splice(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice(SEEDS[rng.choice(list(SEEDS))])
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def set_number(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice((*NUMBERS, len(data))) + rng.choice((-1, 0, 0, 1))
    at = rng.randint(0, len(data))
    return data[:at] + (number % (1 << 8 * size)).to_bytes(size, "little") + data[at + size :]


def _chunk(rng: random.Random, data: bytes) -> tuple[int, int]:
    return rng.randint(0, len(data)), rng.choice((1, 1, 2, 4, 8, 16, 64))


PLAIN: tuple[Mutation, ...] = (flip_bit, replace, insert, remove, repeat, cut, splice, set_number)


# --- Mutations that know a format ---


def change_instructions(rng: random.Random, data: bytes) -> bytes:
    """Exchanges, removes, repeats or adds instructions of a pickle."""
    bounds = [*_instructions(data), len(data)]
    if len(bounds) < 3:
        return data
    i = rng.randrange(len(bounds) - 1)
    start, end = bounds[i], bounds[i + 1]
    other = rng.choice(bounds[:-1])
    kind = rng.randrange(5)
    if kind == 0:
        return data[:start] + rng.choice(pickletools.opcodes).code.encode("latin1") + data[start + 1 :]
    if kind == 1:
        return data[:start] + data[end:]
    if kind == 2:
        return data[:other] + data[start:end] * rng.choice((1, 1, 2, 1000)) + data[other:]
    if kind == 3:
        return data[:start] + rng.choice(list(GADGETS.values()))[2:-1] + data[start:]
    number = rng.choice((*NUMBERS, len(data))).to_bytes(9, "little", signed=True)
    return data[: start + 1] + number[: max(1, end - start - 1)] + data[end:]


def _instructions(data: bytes) -> Iterator[int]:
    """Where the instructions of the pickles that bytes begin with stand."""
    stream = io.BytesIO(data)
    with suppress(Exception):  # pickletools raises all sorts of things at the end
        while True:
            yield from (position for _, _, position in pickletools.genops(stream) if position is not None)


def change_member(rng: random.Random, data: bytes) -> bytes:
    """Changes the content, name or order of a zip's members, with right checksums and directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except Exception:  # an earlier mutation broke it
        return replace(rng, data)
    if not members:
        return data
    i = rng.randrange(len(members))
    name, content = members[i]
    kind = rng.randrange(8)
    if kind == 0:
        members.append(members[i])
    elif kind == 1:
        del members[i]
    elif kind == 2:
        members[i] = (rng.choice(("/" + name, "../" + name, name + "x", "data.pkl", name.upper())), content)
    elif kind == 3:
        return zipped(members, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))
    else:
        members[i] = (name, rng.choice((*PLAIN, change_instructions, change_instructions))(rng, content))
    return zipped(members)


def change_directory(rng: random.Random, data: bytes) -> bytes:
    """Sets a field of a zip's records."""
    places = [at for at in range(len(data) - 4) if data[at : at + 4] in (b"PK\1\2", b"PK\3\4", b"PK\5\6")]
    if not places:
        return data
    at = rng.choice(places) + rng.randrange(4, 46, 2)
    size = rng.choice((2, 4))
    return data[:at] + (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little") + data[at + size :]


def change_header(rng: random.Random, data: bytes) -> bytes:
    """Changes a safetensors header and keeps its length right."""
    (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
    header, numbers = data[8 : 8 + length], data[8 + length :]
    tokens = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"-", b"1e9", b"null", b'"F16"', b'"I64"', b'"BOOL"']
    tokens += [str(number).encode() for number in NUMBERS]
    at = rng.randint(0, len(header))
    kind = rng.randrange(3)
    if kind == 0:
        header = header[:at] + rng.choice(tokens) + header[at + rng.randint(0, 5) :]
    elif kind == 1:
        digits = [i for i, byte in enumerate(header) if byte in b"0123456789"] or [0]
        at = rng.choice(digits)
        header = header[:at] + rng.choice(tokens[-len(NUMBERS) :]) + header[at + 1 :]
    else:
        header = rng.choice(PLAIN)(rng, header)
    return safetensors(header, numbers)


KNOWING: dict[str, tuple[Mutation, ...]] = {
    "pdparams": (change_instructions,),
    "pth, zip": (change_member, change_member, change_directory),
    "pth, legacy": (change_instructions,),
    "safetensors": (change_header,),
}
"""Format → the mutations that know it."""


def mutant(kind: str, seed: int, number: int) -> bytes:
    """File `number` of a format: an honest one after one to eight mutations."""
    rng = random.Random(f"{kind} {seed} {number}")
    data = rng.choice(SEEDS[kind])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        changed = rng.choice(KNOWING[kind] if rng.random() < 0.5 else PLAIN)(rng, data)
        if 0 < len(changed) <= LARGEST:
            data = changed
    return data


# --- Running ---


@dataclass
class Tally:
    """What came of the files of one format."""

    refused: int = 0
    read: int = 0
    slowest: float = 0.0
    peak: int = 0
    faults: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)


def fuzz(kind: str, files: int, seed: int, folder: Path) -> Tally:
    """Reads the first `files` mutants of a format; `folder` is for the file at hand."""
    tally = Tally()
    path = folder / "mutant"
    with Sandbox() as sandbox:
        for number in range(files):
            path.write_bytes(mutant(kind, seed, number))
            outcome = sandbox.read(path)
            tally.slowest = max(tally.slowest, outcome.seconds)
            tally.peak = max(tally.peak, outcome.peak)
            if outcome.faults:
                tally.faults.append((number, outcome.faults))
            elif outcome.message:
                tally.refused += 1
            else:
                tally.read += 1
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="files per format (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an existing folder for the files that show a fault")
    options = parser.parse_args()
    print(f"| {'format':11} | files | refused | read | faults | slowest, ms | most memory, MB |")
    print("|---|---|---|---|---|---|---|")
    found = False
    for kind in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            tally = fuzz(kind, options.files, options.seed, Path(folder))
        numbers = f"{tally.refused} | {tally.read} | {len(tally.faults)} | {1000 * tally.slowest:.0f}"
        print(f"| {kind:11} | {options.files} | {numbers} | {tally.peak / 1e6:.1f} |", flush=True)
        for number, faults in tally.faults:
            found = True
            print(f"  {kind} {number}: {'; '.join(faults)}")
            if options.keep:
                (options.keep / f"{kind} {number}".replace(", ", "-")).write_bytes(mutant(kind, options.seed, number))
    raise SystemExit(found)


if __name__ == "__main__":
    main()
