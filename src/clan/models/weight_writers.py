"""Writing named arrays in the formats of Paddle, PyTorch and safetensors, without importing Paddle or PyTorch."""

import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from safetensors import numpy as safetensors_numpy

from clan.core.files import UnfitFile
from clan.models.safe_pickle import TORCH_STORAGES

_TORCH_SCALARS = {number_format: f"{name}Storage" for name, number_format in TORCH_STORAGES.items()}


def _write_paddle(arrays: dict[str, np.ndarray], file: BinaryIO) -> None:
    pickle.dump(arrays, file, protocol=4)


def write_safetensors(arrays: dict[str, np.ndarray], file: BinaryIO, metadata: dict[str, str] | None = None) -> None:
    """Writes safetensors with `metadata`, texts by name."""
    file.write(safetensors_numpy.save(arrays, metadata))


def _write_torch(arrays: dict[str, np.ndarray], file: BinaryIO) -> None:
    """Writes PyTorch's zip format: a pickle that names each array's storage, and a file of bytes per storage."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def store(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"weights/{name}"), content)  # a ZipInfo has no date: same bytes

        store("data.pkl", _torch_pickle(arrays))
        store("byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            store(f"data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes())
        store("version", b"3\n")


def _torch_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """Builds the pickle of {name: tensor} instruction by instruction, since PyTorch's classes are not available."""

    def integer(value: int) -> bytes:
        digits = pickle.encode_long(value)
        return pickle.LONG1 + bytes([len(digits)]) + digits

    def text(value: str) -> bytes:
        return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()

    def entries(*items: bytes) -> bytes:
        return pickle.MARK + b"".join(items) + pickle.TUPLE

    hooks = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    table = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT]
    for key, (name, array) in enumerate(arrays.items()):
        if array.dtype.str[1:] not in _TORCH_SCALARS:
            raise UnfitFile(f"cannot hold {name}, whose type is {array.dtype}: convert it to float32")
        kind = pickle.GLOBAL + f"torch\n{_TORCH_SCALARS[array.dtype.str[1:]]}\n".encode()
        storage = entries(text("storage"), kind, text(str(key)), text("cpu"), integer(array.size)) + pickle.BINPERSID
        shape = entries(*map(integer, array.shape))
        strides = entries(*(integer(stride // array.itemsize) for stride in array.strides))
        rebuild = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
        window = entries(storage, integer(0), shape, strides, pickle.NEWFALSE, hooks)
        table += [text(name), rebuild, window, pickle.REDUCE, pickle.SETITEM]
    return b"".join([*table, pickle.STOP])


WRITERS: dict[str, Callable[[dict[str, np.ndarray], BinaryIO], None]] = {
    ".pdparams": _write_paddle,
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".safetensors": write_safetensors,
}
"""Suffix → writer."""
