"""To add a format of weights: a writer in WRITERS by suffix, and in READERS what tells the format and what reads it."""

import io

import numpy as np

from clan.models.weight_files import Contents

MAGIC = b"NAMED NPY\n"


def write(arrays, file):
    """How many arrays there are, then of each a line with its name and the array as NumPy stores it."""
    file.write(MAGIC + b"%d\n" % len(arrays))
    for name, array in arrays.items():
        file.write(name.encode() + b"\n")
        np.lib.format.write_array(file, array, allow_pickle=False)


def fits(data):
    return data.startswith(MAGIC)


def read(data, budget):
    """Takes memory for an array only where the file has as many bytes."""
    stream, arrays = io.BytesIO(data[len(MAGIC) :]), {}
    for _ in range(int(stream.readline())):
        name = stream.readline().decode().strip()
        start = stream.tell()
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        budget.spend(size, arrays=1)
        if size > len(data) - stream.tell():
            raise ValueError("an array is longer than the file")
        stream.seek(start)
        arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return Contents(arrays)
