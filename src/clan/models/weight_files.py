"""Reading and writing files of weights: `.pdparams`, `.pth`/`.pt` in both of PyTorch's formats, `.safetensors`.

Files are untrusted: nothing in them is executed (see `safe_pickle`), and declared lengths, shapes and offsets are
checked against the file's size before memory is allocated. Neither Paddle nor PyTorch is imported.
"""

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, deserialize

from clan.core.errors import WeightsError
from clan.core.files import UnfitFile, quoted, read_start, read_whole, write_atomically
from clan.models.safe_pickle import Interpreter, NumpyArray, TorchTensor
from clan.models.weight_writers import WRITERS, write_safetensors
from clan.models.wrappings import wrapped_tables

# Limits, generous for real files: a ResNet-101 segmenter has 180 MB in 700 arrays, with optimizer state below 1 GB in
# 2,000 arrays.
_LARGEST_FILE = 2 << 30
_LARGEST_HEADER = 1 << 20  # of safetensors; 700 arrays need 80 kB
_MOST_ARRAYS = 20_000
_MOST_ZIP_ENTRIES = _MOST_ARRAYS + 10
_LARGEST_DIRECTORY = 2 << 20  # bytes of a zip's directory; 700 arrays need 30 kB
_MOST_DIMENSIONS = 32
_LONGEST_NAME = 1000
_GROWTH = 4  # bytes of arrays per byte of file: enough for float16 held as text, widened, and named twice

_ZIP_ENTRY = b"PK\x01\x02"  # signature of an entry in a zip's directory
_TORCH_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the integer at the start of older files

_SAFETENSORS = {
    "F16": "f2", "BF16": "bf16", "F32": "f4", "F64": "f8", "BOOL": "b1",
    "U8": "u1", "U32": "u4", "U64": "u8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8",
}  # fmt: skip
"""Safetensors' types → number format: numpy's code, or bf16."""

_FORMATS = frozenset(_SAFETENSORS.values())
_WIDENED = {"f2": "f4", "b1": "?"}  # number format → type of the array, where it is another

_DAMAGE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    struct.error, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip
"""Exceptions of the readers for invalid bytes."""


@dataclass(frozen=True)
class Contents:
    """The arrays of a file of weights.

    Args:
        arrays: name → array in C order, in the file's order. float16 and bfloat16 become float32, other types are
            kept. uint16 in a `.pdparams` is bfloat16, as for `paddle.load`.
        wrapping: path of keys of their dict, such as "model.state_dict"; "" for the top level.
        others: paths of further dicts of arrays, which were not read.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    wrapping: str = ""
    others: tuple[str, ...] = ()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays that `read_contents` reads."""
    return read_contents(path).arrays


def read_contents(path: Path, take: str | None = None) -> Contents:
    """Reads the named arrays of a file without executing code.

    The format is recognised by content, not by suffix. Dicts under the keys of `wrappings.WRAPPERS` are searched, up to
    four levels deep. Entries that are not arrays are ignored.

    Args:
        path: a file of at most 2 GiB. Reading needs a few times its size of memory.
        take: a key in the path of the wanted dict, if a file has several.

    Raises:
        WeightsError: the file is missing, unreadable, damaged, malicious or has no arrays.
    """
    try:
        data = read_whole(path, _LARGEST_FILE)
        contents = _reader_of(data)(data, _Budget(_GROWTH * len(data) + (1 << 16), take=take))
        if not contents.arrays:
            raise UnfitFile("holds no named arrays: save the network's state_dict() alone")
        return contents
    except UnfitFile as error:
        raise WeightsError(f"{path} {error}") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error
    except _DAMAGE as error:
        reason = quoted(str(error) or type(error).__name__)
        raise WeightsError(f"{path} is damaged or cut short ({reason}): download or save it again") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Reads the metadata of a `.safetensors` file, texts by name; {} for other and damaged files."""
    try:
        data = read_start(path, 8 + _LARGEST_HEADER)
        length = int.from_bytes(data[:8], "little")
        known = json.loads(data[8 : 8 + length]) if data[8:9] == b"{" and length <= _LARGEST_HEADER else {}
        return {str(name): text for name, text in known.get("__metadata__", {}).items() if isinstance(text, str)}
    except (OSError, UnfitFile, *_DAMAGE):  # reported when the arrays are read
        return {}


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes named arrays atomically in the format of the suffix.

    Args:
        arrays: name → array of any shape, of float16/32/64, integers or bool.
        path: ends in `.pdparams` (for `paddle.load`), `.pth` or `.pt` (for `torch.load`), or `.safetensors`.
        metadata: texts by name, only for `.safetensors`.

    Raises:
        WeightsError: unknown suffix, a dtype that the format lacks, or writing failed.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise WeightsError(f"{path} does not say its format: end the name in one of {', '.join(WRITERS)}")
    writer = partial(write_safetensors, metadata=metadata) if suffix == ".safetensors" else WRITERS[suffix]
    # The writers copy raw memory, so arrays must be in C order and native byte order.
    plain = {name: np.asarray(a, a.dtype.newbyteorder("="), order="C") for name, a in arrays.items()}
    try:
        write_atomically(path, lambda file: writer(plain, file))
    except UnfitFile as error:
        raise WeightsError(f"{path} {error}") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be written ({error.strerror}): check the folder and its space") from error


@dataclass
class _Budget:
    """Bytes and arrays that may still be allocated, so that overlapping arrays cannot fill the memory.

    `take`: see `read_contents`.
    """

    bytes_left: int
    arrays_left: int = _MOST_ARRAYS
    take: str | None = None

    def spend(self, amount: int, *, arrays: int = 0) -> None:
        self.bytes_left -= amount
        self.arrays_left -= arrays
        if self.bytes_left < 0:
            raise UnfitFile(f"would unpack to over {_GROWTH} times its own size: do not use it")
        if self.arrays_left < 0:
            raise UnfitFile(f"holds more than {_MOST_ARRAYS} arrays, far more than a network: do not use it")


def _reader_of(data: bytes) -> Callable[[bytes, _Budget], Contents]:
    """Returns the reader for the format, recognised by the first bytes."""
    for fits, reader in READERS.values():
        if fits(data):
            return reader
    raise UnfitFile(f"is none of {', '.join(WRITERS)}: did its download end in a web page?")


def _read_safetensors(data: bytes, budget: _Budget) -> Contents:
    """Reads safetensors; the library checks the header for overlaps, holes and bounds."""
    length = int.from_bytes(data[:8], "little")
    if length > _LARGEST_HEADER:
        raise UnfitFile(
            f"has a header of {length} bytes, over the limit of {_LARGEST_HEADER}: save the network's arrays alone"
        )
    entries = deserialize(data)
    json.loads(data[8 : 8 + length], object_pairs_hook=_without_repetition)  # not checked by the library
    arrays = {
        _text(name): _array(entry["data"], _SAFETENSORS.get(entry["dtype"], entry["dtype"]), entry["shape"], budget)
        for name, entry in entries
    }
    return Contents(arrays)


def _without_repetition(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(entries)
    if len(table) < len(entries):
        raise ValueError("a header says one thing twice")
    return table


def _read_paddle(data: bytes, budget: _Budget) -> Contents:
    """Reads a file of `paddle.save`: one pickle of numpy arrays."""
    return _named_arrays(Interpreter(io.BytesIO(data)).run(), budget)


def _read_torch_zip(data: bytes, budget: _Budget) -> Contents:
    """Reads PyTorch's format since 1.6: a zip of `ROOT/data.pkl` and an uncompressed `ROOT/data/KEY` each."""
    _check_directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(set(names)) < len(names):  # ambiguous: readers differ in which one they take
            raise UnfitFile("is a zip with two entries of one name: do not use it")
        if any(".." in name or name.startswith("/") for name in names):  # harmless here, but not when unpacked
            raise UnfitFile("is a zip with paths that lead out of it: do not use it")
        if len(roots) != 1:
            raise UnfitFile("is a zip without PyTorch's data.pkl: unpack it and name the file of weights in it")

        def content(name: str) -> bytes:
            entry = archive.getinfo(roots[0] + name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise UnfitFile("is a compressed zip, which PyTorch never writes: save it again")
            budget.spend(entry.file_size)
            return archive.read(entry)

        if f"{roots[0]}byteorder" in names and content("byteorder") != b"little":
            raise UnfitFile("was written on a big-endian machine: save it again on a little-endian one")
        interpreter = Interpreter(io.BytesIO(content("data.pkl")))
        table = interpreter.run()
        for key, storage in interpreter.storages.items():
            storage.raw = content(f"data/{key}")
    return _named_arrays(table, budget)


def _check_directory(data: bytes) -> None:
    """Refuses a directory that is expensive for zipfile: many entries, or long extra fields (quadratic time)."""
    count, position, size = data.count(_ZIP_ENTRY), -1, 0
    if count > _MOST_ZIP_ENTRIES:
        raise UnfitFile("is a zip of too many files: it was not written by PyTorch")
    for _ in range(count):
        position = data.index(_ZIP_ENTRY, position + 1)
        size += sum(struct.unpack_from("<3H", data, position + 28))  # the lengths of name, extra fields and comment
    if size > _LARGEST_DIRECTORY:
        raise UnfitFile("is a zip with a directory too large: it was not written by PyTorch")


def _read_torch_legacy(data: bytes, budget: _Budget) -> Contents:
    """Reads PyTorch's format before 1.6: five pickles, then length and content of every storage."""
    stream = io.BytesIO(data)
    for _ in ("magic number", "protocol version", "system"):
        Interpreter(stream).run()
    interpreter = Interpreter(stream)
    table = interpreter.run()
    keys = Interpreter(stream).run()
    if not isinstance(keys, list):  # a text could be millions of them
        raise ValueError("impossible list of storages")
    for key in keys:
        storage = interpreter.storages[_text(key)]
        (length,) = struct.unpack("<q", stream.read(8))
        start = stream.tell()
        end = start + length * _dtype(storage.number_format).itemsize
        if not start <= end <= len(data):
            raise ValueError("a storage reaches beyond the end")
        storage.raw = memoryview(data)[start:end]
        stream.seek(end)
    return _named_arrays(table, budget)


READERS: dict[str, tuple[Callable[[bytes], bool], Callable[[bytes, _Budget], Contents]]] = {
    # Safetensors begins with the length of its JSON header. The first eight bytes of a pickle or of a zip,
    # read as such a length, are far beyond the limit.
    "safetensors": (
        lambda data: data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _LARGEST_FILE,
        _read_safetensors,
    ),
    "torch": (lambda data: data.startswith(b"PK\x03\x04"), _read_torch_zip),
    "torch before 1.6": (lambda data: _TORCH_MAGIC in data[:32], _read_torch_legacy),
    "paddle": (lambda data: data.startswith(b"\x80"), _read_paddle),
}
"""What tells a format by a file's bytes, and what reads it within a budget; the first that fits is taken."""


def _named_arrays(content: Any, budget: _Budget) -> Contents:
    """The arrays of an unpickled dict, or of a dict that it wraps (see `read_contents`)."""
    tables = wrapped_tables(content, lambda value: isinstance(_bare(value), NumpyArray | TorchTensor))
    tables.sort(key=lambda found: budget.take is not None and budget.take not in found[0])  # stable
    if not tables:
        return Contents()
    (wrapping, table), *others = tables
    arrays = {}
    for name, value in table.items():
        if isinstance(bare := _bare(value), NumpyArray):
            arrays[_text(name)] = _numpy_array(bare, budget)
        elif isinstance(bare, TorchTensor):
            arrays[_text(name)] = _torch_array(bare, budget)
    # Smaller enclosing dicts, such as the epoch's, are not further networks.
    rivals = [keys for keys, one in others if wrapping[: len(keys)] != keys or len(one) >= len(table)]
    return Contents(arrays, ".".join(wrapping), tuple(".".join(keys) or "(open)" for keys in rivals))


def _bare(value: Any) -> Any:
    """Unwraps the pair (parameter name, array) that Paddle writes since 2.1."""
    return value[1] if isinstance(value, tuple) and len(value) == 2 else value


def _numpy_array(described: NumpyArray, budget: _Budget) -> np.ndarray:
    _, shape, dtype, fortran, raw = described.state
    if isinstance(raw, str):  # protocol 2 writes bytes as Latin-1 text
        budget.spend(len(raw))
        raw = raw.encode("latin1")
    number_format = "bf16" if dtype.code == "u2" else dtype.code
    order = ">" if dtype.state[1] == ">" else "<"
    if fortran:
        return _array(raw, number_format, _sizes(shape)[::-1], budget, order=order).T.copy()
    return _array(raw, number_format, shape, budget, order=order)


def _torch_array(described: TorchTensor, budget: _Budget) -> np.ndarray:
    storage, window = described.storage, {"offset": described.offset, "strides": described.strides}
    return _array(storage.raw, storage.number_format, described.shape, budget, **window)


def _array(
    raw: bytes | bytearray | memoryview,
    number_format: Any,
    shape: Sequence[int],
    budget: _Budget,
    *,
    offset: int = 0,
    strides: Sequence[int] | None = None,
    order: Literal["<", ">"] = "<",
) -> np.ndarray:
    """Copies an array from raw bytes; offset and strides in elements, `order` is the byte order."""
    stored = _dtype(number_format).newbyteorder(order)
    shape, (offset,) = _sizes(shape), _sizes((offset,))
    strides = None if strides is None else _sizes(strides)
    count = math.prod(shape)
    budget.spend(count * max(stored.itemsize, 4), arrays=1)
    # Checked here because NumPy's own check overflows, and accepts any view of empty bytes.
    if strides is None:
        fits = len(raw) == count * stored.itemsize
    else:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        fits = not count or (last + 1) * stored.itemsize <= len(raw)
    if not fits:
        raise ValueError("an array and its bytes differ in size")
    steps = None if strides is None else tuple(stride * stored.itemsize for stride in strides)
    window = np.ndarray(shape, stored, raw, offset * stored.itemsize, steps)
    if number_format == "bf16":  # the upper half of a float32
        bits = window.astype("u4", order="C")
        bits <<= 16
        return bits.view("f4")
    return window.astype(_WIDENED.get(number_format, stored.newbyteorder("=")), order="C")


def _sizes(numbers: Sequence[Any]) -> tuple[int, ...]:
    """Checks a shape or strides: NumPy accepts negative strides, and products of huge numbers take time."""
    if len(numbers) > _MOST_DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
        raise ValueError("impossible shape")
    return tuple(numbers)


def _dtype(number_format: Any) -> np.dtype:
    """Returns the storage dtype of a number format: bf16 as uint16; bool as uint8, since values may exceed 1."""
    if _text(number_format) not in _FORMATS:
        raise UnfitFile(f"stores numbers as {quoted(number_format)}: save it as float32")
    return np.dtype({"bf16": "u2", "b1": "u1"}.get(number_format, number_format))


def _text(value: Any) -> str:
    """Checks a name: hashing nested tuples takes exponential time, surrogates cannot be encoded."""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise ValueError("impossible name")
    value.encode()
    return value
