"""Files of weights put together by hand from pickle instructions, so that honest and hostile ones look alike."""

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

EXAMPLE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "nothing": np.zeros((0, 3), np.float32),
}


def text(value: str) -> bytes:
    raw = value.encode(errors="surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    digits = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(digits)]) + digits


def named(name: str) -> bytes:
    return pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"


def pack(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def call(name: str, *arguments: bytes) -> bytes:
    return named(name) + pack(*arguments) + pickle.REDUCE


def program(*parts: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + b"".join(parts) + pickle.STOP


def table(entries: Mapping[str, bytes]) -> bytes:
    return program(pickle.EMPTY_DICT, *(text(k) + v + pickle.SETITEM for k, v in entries.items()))


def storage(key="0", kind="Float", view=b"") -> bytes:
    entries = (text("storage"), named(f"torch {kind}Storage"), text(key), text("cpu"), integer(6))
    return pack(*entries, view) + pickle.BINPERSID


def tensor(shape=(2, 3), strides=(3, 1), offset=0, **where) -> bytes:
    return call(
        "torch._utils _rebuild_tensor_v2",
        storage(**where), integer(offset), pack(*map(integer, shape)), pack(*map(integer, strides)),
        pickle.NEWFALSE, call("collections OrderedDict"),
    )  # fmt: skip


EMPTY_ARRAY = call("numpy.core.multiarray _reconstruct", named("numpy ndarray"), pack(integer(0)), text("b"))


def latin1(raw: bytes) -> bytes:
    """Bytes as protocol 2 writes them."""
    return call("_codecs encode", text(raw.decode("latin1")), text("latin1"))


def numpy_dtype(code="f4", order="<") -> bytes:
    state = pack(integer(3), text(order), *[pickle.NONE] * 3, integer(-1), integer(-1), integer(0))
    return call("numpy dtype", text(code), integer(0), integer(1)) + state + pickle.BUILD


def numpy_array(shape=(2, 3), dtype=None, fortran=pickle.NEWFALSE, raw=None) -> bytes:
    dtype = numpy_dtype() if dtype is None else dtype
    raw = latin1(bytes(24)) if raw is None else raw
    return EMPTY_ARRAY + pack(integer(1), pack(*map(integer, shape)), dtype, fortran, raw) + pickle.BUILD


def zipped(entries: Iterable[tuple[str, bytes]], compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that repeat
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def torch_zip(pickled: bytes, storages: Mapping[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    data = {f"archive/data/{key}": raw for key, raw in storages.items()}
    return zipped([("archive/data.pkl", pickled), *data.items()], compression)


def torch_legacy(pickled: bytes, storages: Mapping[str, bytes], itemsize=4) -> bytes:
    head = program(integer(0x1950A86A20F9469CFC6C)) + program(integer(1001)) + program(pickle.EMPTY_DICT)
    keys = program(pickle.EMPTY_LIST, *(text(key) + pickle.APPEND for key in storages))
    tail = [struct.pack("<q", len(raw) // itemsize) + raw for raw in storages.values()]
    return b"".join([head, pickled, keys, *tail])


def safetensors(header: str | bytes | Mapping[str, object], data: bytes = b"") -> bytes:
    if isinstance(header, Mapping):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape=(2, 3), kind="F32", offsets=(0, 24)) -> dict[str, object]:
    """What a safetensors header says of one array."""
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


def honest_files() -> dict[str, list[bytes]]:
    """Format → small honest files of it, each with most of what the format may hold."""
    tensors = {"plain": tensor(), "window": tensor((2,), (2,), offset=1), "half": tensor(key="1", kind="Half")}
    storages = {"0": np.arange(6, dtype="<f4").tobytes(), "1": bytes(12)}
    arrays = {"plain": numpy_array(), "fortran": numpy_array(fortran=pickle.NEWTRUE), "step": integer(3)}
    header = {"__metadata__": {"format": "pt"}, "a": entry(), "b": entry((3,), "BF16", (24, 30))}
    return {
        "pdparams": [
            *(pickle.dumps({"epoch": 3, "model": EXAMPLE}, protocol) for protocol in (2, 3, 4)),
            pickle.dumps({name: (f"conv2d_{i}.w_0", array) for i, (name, array) in enumerate(EXAMPLE.items())}, 4),
            table(arrays),
        ],
        "pth, zip": [
            torch_zip(table(tensors), storages),
            zipped([("w/data.pkl", table({"a": tensor()})), ("w/byteorder", b"little"), ("w/data/0", bytes(24))]),
        ],
        "pth, legacy": [
            torch_legacy(table({"plain": tensor(), "window": tensor((2,), (2,), offset=1)}), {"0": storages["0"]}),
            torch_legacy(table({"array": numpy_array(), "a": tensor(kind="Double")}), {"0": bytes(48)}, 8),
        ],
        "safetensors": [safetensors(header, bytes(30)), safetensors({"a": entry((), "I64", (0, 8))}, bytes(8))],
    }
