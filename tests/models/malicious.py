"""Hostile files of weights, by what each tries; every one differs from an honest file in little else."""

import io
import pickle
import struct
import zipfile

from tests.models.forge import (
    EMPTY_ARRAY,
    call,
    entry,
    integer,
    latin1,
    named,
    numpy_array,
    numpy_dtype,
    pack,
    program,
    safetensors,
    table,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    zipped,
)  # fmt: skip

WITNESS = "clan_weights_witness"
"""The file that the gadgets would create."""

TOUCH = text(f"touch {WITNESS}")
SYSTEM = named("os system")
ORDERED = named("collections OrderedDict")
NDARRAY = named("numpy ndarray")
TENSOR = call("torch._utils _rebuild_tensor", pickle.NONE, integer(0), pack(), pack())
CLASS = b"}" + text("__class__") + ORDERED + b"s"
HUGE = b"J\xff\xff\xff\x7f"

GADGETS = {
    "GLOBAL": program(SYSTEM, pack(TOUCH), b"R"),
    "GLOBAL with an escape": program(b"ccollections\nOrdered\\x44ict\n)R"),
    "GLOBAL with half a line": b"\x80\x02cos",
    "STACK_GLOBAL": program(text("os"), text("system"), b"\x93", pack(TOUCH), b"R"),
    "STACK_GLOBAL of no text": program(b"]", text("system"), b"\x93"),
    "eval": program(named("builtins eval"), pack(text(f"open('{WITNESS}', 'w')")), b"R"),
    "exec of Python 2": program(named("__builtin__ execfile"), pack(text("/etc/passwd")), b"R"),
    "getattr": program(named("builtins getattr"), pack(ORDERED, text("__class__")), b"R"),
    "a module's import": program(named("importlib import_module"), pack(text("antigravity")), b"R"),
    "a socket": program(named("socket create_connection"), pack(pack(text("localhost"), b"K\x50")), b"R"),
    "a dotted name": program(text("collections"), text("OrderedDict.__class__"), b"\x93"),
    "a name with a space": program(text("collections OrderedDict"), text(""), b"\x93"),
    "numpy.load": program(named("numpy load"), pack(text("x.npy"), b"N", b"\x88"), b"R"),
    "torch.load": program(named("torch.serialization load"), pack(text("x.pt")), b"R"),
    "INST": program(b"(", TOUCH, b"ios\nsystem\n"),
    "OBJ": program(b"(", SYSTEM, TOUCH, b"o"),
    "OBJ of a known name": program(b"(", ORDERED, b"o"),
    "NEWOBJ": program(named("subprocess Popen"), pack(TOUCH), b"\x81"),
    "NEWOBJ of a known name": program(NDARRAY, pack(pack(HUGE)), b"\x81"),
    "NEWOBJ_EX": program(NDARRAY, b")}", b"\x92"),
    "EXT1": program(b"\x82\1"),
    "EXT2": program(b"\x83\1\0"),
    "EXT4": program(b"\x84\1\0\0\0"),
    "PERSID": program(b"Pos.system\n"),
    "BINPERSID": program(pack(text("module"), ORDERED, TOUCH, TOUCH, TOUCH), b"Q"),
    "BINPERSID of an unknown type": program(pack(text("storage"), b"N", text("0")), b"Q"),
    "REDUCE of data": program(text("os.system"), pack(TOUCH), b"R"),
    "REDUCE of an array": program(EMPTY_ARRAY, pack(TOUCH), b"R"),
    "REDUCE of a type": program(named("torch FloatStorage"), pack(TOUCH), b"R"),
    "REDUCE of ndarray": program(NDARRAY, pack(pack(HUGE)), b"R"),
    "REDUCE with a list": program(ORDERED, b"]", b"R"),
    "BUILD of a function": program(ORDERED, CLASS, b"b"),
    "BUILD of a tensor": program(TENSOR, CLASS, b"b"),
    "BUILD of a dict": program(ORDERED, b")R", CLASS, b"b"),
    "BUILD of an array": program(b"}", text("a"), EMPTY_ARRAY, CLASS, b"bs"),
    "SETITEM of an array": program(EMPTY_ARRAY, text("state"), b"Ns"),
    "APPEND to a dict": program(b"}Na"),
    "ADDITEMS": program(b"\x8f(K\1\x90"),
    "FROZENSET": program(b"(K\1\x91"),
    "DUP": program(b"}2"),
    "POP_MARK": program(b"}(1"),
    "NEXT_BUFFER": program(b"\x97"),
    "READONLY_BUFFER": program(b"}\x98"),
    "no pickle instruction": program(b"\xff"),
}
"""Pickles that want to run something, by the instruction or the function that would do it."""


def doubled(times: int) -> bytes:
    """A tuple of itself twice, again and again: few bytes, but exponential time to walk, hash or compare."""
    return b")" + b"q\0h\0\x86" * times


MANY = b"(" + b"N" * 10_000 + b"tq\0"
DTYPE = named("numpy dtype")
BOMBS = {
    "huge bytes": program(b"\x8e" + struct.pack("<Q", 1 << 62)),
    "huge bytes beyond all numbers": program(b"\x8e" + b"\xff" * 8),
    "huge bytearray": program(b"\x96" + struct.pack("<Q", 1 << 62)),
    "huge text": program(b"X\xff\xff\xff\xff" + b"x"),
    "huge text of 64 bits": program(b"\x8d" + struct.pack("<Q", 1 << 62) + b"x"),
    "negative length of text": program(b"T\xff\xff\xff\xff"),
    "huge integer": program(b"\x8b" + struct.pack("<i", 1_000_000) + bytes(1_000_000)),
    "negative length of an integer": program(b"\x8b\xff\xff\xff\xff"),
    "huge decimal": program(b"L" + b"9" * 1_000_000 + b"L\n"),
    "huge decimal fraction": program(b"F" + b"9" * 1_000_000 + b"\n"),
    "huge name": program(b"c" + b"x" * 1_000_000 + b"\ny\n"),
    "huge memo": program(b"Nr\xff\xff\xff\xff"),
    "memo without entry": program(b"j\xff\xff\xff\xff"),
    "huge frame": program(b"\x95" + b"\xff" * 8 + b"}"),
    "many objects": program(b"}" * 310_000),
    "deep lists": program(b"]" * 100_000 + b"a" * 99_999),
    "deep tuples": program(b")" + b"\x85" * 100_000),
    "deep dicts": program((b"}" + text("model")) * 60_000 + b"}" + b"s" * 60_000),
    "deep marks": program(b"(" * 100_000),
    "deep arrays": program(b"}" + text("a") + EMPTY_ARRAY * 20_000 + b"b" * 19_999 + b"s"),
    "deep tensors": program(b"N" + (b"q\0" + named("torch._utils _rebuild_tensor") + b"(h\0NNNtR") * 20_000),
    "a key of tuples": program(b"}" + doubled(99) + b"Ns"),
    "a storage's type of tuples": program(pack(text("storage"), doubled(99), text("0")) + b"Q"),
    "a storage's name of tuples": program(pack(text("storage"), named("torch FloatStorage"), doubled(99)) + b"Q"),
    "a number format of tuples": program(
        b"}", text("a"), EMPTY_ARRAY, b"(K\1(t", DTYPE, doubled(99), b"\x85R(N", text("<"), b"tb\x89Ntbs"
    ),
    "lists of itself twice": program(b"]" + b"q\0](h\0h\0e" * 99),
    "calls with many arguments": program(MANY, (DTYPE + b"h\0R") * 10_000),
    "a storage's name of millions": program(
        pack(text("storage"), named("torch FloatStorage"), text("\x1b" * 1_000_000)) + b"Q"
    ),
    "storages with many entries": program(MANY, b"h\0Q" * 10_000),
    "a dict of itself": program(b"}q\0" + text("model") + b"h\0s"),
    "a list of itself": program(b"]q\0h\0a"),
    "an array of itself": program(b"}" + text("a"), EMPTY_ARRAY, b"q\0(K\1(K\1t", numpy_dtype(), b"\x89h\0tbs"),
    "one array under many names": program(
        *(b"}", text("a"), numpy_array(), b"q\0s("), *(text(str(i)) + b"h\0" for i in range(30_000)), b"u"
    ),
    "one empty array under many names": program(
        *(b"}", text("a"), numpy_array((0,), raw=latin1(b"")), b"q\0s("),
        *(text(str(i)) + b"h\0" for i in range(30_000)), b"u",
    ),
    "nothing on the stack": program(b""),
    "no end": program(b"}")[:-1],
    "more marks than stacks": program(b"t"),
    "an odd number of items": program(b"}(", text("a"), b"u"),
}  # fmt: skip
"""Pickles that want all memory, all time or a crash."""

MEMOIZED = text("x" * 5000) + pickle.BINPUT + b"\5"
RECALLED = call("_codecs encode", pickle.BINGET + b"\5", text("latin1"))
ARRAYS = {
    "of a huge size": numpy_array((1 << 40,)),
    "of a huge size and empty": numpy_array((1 << 40, 0, 1 << 40)),
    "of a negative size": numpy_array((-1, 6)),
    "of a negative size for reshape": numpy_array((-1,)),
    "of a fractional size": EMPTY_ARRAY + pack(integer(1), b"G" + bytes(8) + b"\x85", numpy_dtype(), b"\x89N") + b"b",
    "of objects": numpy_array(dtype=numpy_dtype("O8", "|")),
    "of structures": numpy_array(dtype=numpy_dtype("f4,O")),
    "of subarrays": numpy_array((1,), dtype=numpy_dtype("(2,3)f4")),
    "of a void": numpy_array((1,), dtype=numpy_dtype("V24")),
    "of text": numpy_array(dtype=numpy_dtype("U999999999")),
    "of dates": numpy_array((3,), dtype=numpy_dtype("M8[ns]")),
    "of complex numbers": numpy_array((3,), dtype=numpy_dtype("c8")),
    "of no type": numpy_array(dtype=pickle.NONE),
    "of a type without state": numpy_array(dtype=call("numpy dtype", text("f4"))),
    "without bytes": numpy_array(raw=pickle.NONE),
    "of a list for bytes": numpy_array(raw=b"]"),
    "of fewer bytes": numpy_array(raw=latin1(bytes(23))),
    "of more bytes": numpy_array(raw=latin1(bytes(25))),
    "of characters for bytes": numpy_array((1,), raw=text("\u20ac")),
    "without state": EMPTY_ARRAY,
}

WINDOWS = {
    "of a negative size": tensor((-2, -3)),
    "with negative strides": tensor((2, 3), (-3, -1), offset=5),
    "with a negative offset": tensor(offset=-1),
    "beyond the end": tensor((2, 4), (4, 1)),
    "beginning beyond the end": tensor(offset=1 << 40),
    "striding beyond the end": tensor((2, 3), (1 << 40, 1)),
    "of an overflowing size": tensor((1 << 40, 1 << 40, 0), (0, 0, 0)),
    "of too many dimensions": tensor([1] * 99, [1] * 99),
    "of an enormous number": tensor((1 << 2000,), (0,)),
    "without strides": tensor((2, 3), ()),
    "with more strides than sizes": tensor((2, 3), (3, 1, 1)),
    "expanded": tensor((1 << 30,), (0,)),
    "expanded beyond all numbers": tensor((1 << 47, 1 << 47), (0, 0)),
    "of a missing storage": tensor(key="../../etc/passwd"),
    "of a number for a storage": call("torch._utils _rebuild_tensor", integer(0), integer(0), pack(), pack()),
    "of another window": call("torch._utils _rebuild_tensor", tensor(), integer(0), pack(), pack()),
}
"""Tensors of a storage of six float32."""

NAMES = {
    "of half characters": {"\ud800": numpy_array()},
    "of 5,000 characters": {"x" * 5000: numpy_array()},
}


def remarks(entries: int) -> bytes:
    """A zip of empty files, each with 64 kB of extra fields without content, which zipfile reads in quadratic time."""
    fields = struct.pack("<HH", 0x9999, 0) * 16383
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(entries):
            entry = zipfile.ZipInfo(f"archive/data/{number}")
            archive.writestr(entry, b"")
            entry.extra = fields  # in the directory alone
    return file.getvalue()


def damaged_zip(signature: bytes, offset: int, value: bytes) -> bytes:
    """An honest zip with another value after the last of a kind of record's signature."""
    data = bytearray(torch_zip(table({"a": tensor()}), {"0": bytes(24)}))
    at = data.rindex(signature) + offset
    data[at : at + len(value)] = value
    return bytes(data)


ONE, ZEROS = table({"a": tensor()}), {"0": bytes(24)}
LEGACY = torch_legacy(ONE, {"0": b""})[:-8]
LOCAL, DIRECTORY, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
HONEST_ZIP = [("archive/data.pkl", ONE), ("archive/data/0", bytes(24))]
CONTAINERS = {
    "zip bomb": torch_zip(ONE, {"0": bytes(5_000_000)}, zipfile.ZIP_DEFLATED),
    "zip bomb of bzip2": torch_zip(ONE, {"0": bytes(5_000_000)}, zipfile.ZIP_BZIP2),
    "zip, compressed pickle": torch_zip(ONE, ZEROS, zipfile.ZIP_DEFLATED),
    "zip of many": LOCAL + DIRECTORY * 60_000,
    "zip of many remarks": remarks(40),
    "zip of itself": zipped([("archive/data.pkl", torch_zip(ONE, ZEROS))]),
    "zip, sizes lie": damaged_zip(DIRECTORY, 20, b"\xf0\xff\xff\xff" * 2),
    "zip, sizes are in 64 bits that are not there": damaged_zip(DIRECTORY, 20, b"\xff" * 8),
    "zip, entry beyond the end": damaged_zip(DIRECTORY, 42, b"\xff\xff\xff\x7f"),
    "zip, two entries share bytes": damaged_zip(DIRECTORY, 42, bytes(4)),
    "zip, encrypted": damaged_zip(DIRECTORY, 8, b"\1\0"),
    "zip, unknown compression": damaged_zip(DIRECTORY, 10, b"\x63\0"),
    "zip, checksum": damaged_zip(DIRECTORY, 16, bytes(4)),
    "zip, names differ": damaged_zip(LOCAL, 30, b"another"),
    "zip, huge directory": damaged_zip(END, 12, b"\xf0\xff\xff\xff"),
    "zip, directory beyond the end": damaged_zip(END, 16, b"\xf0\xff\xff\xff"),
    "zip of an absolute path": zipped([*HONEST_ZIP, (f"/tmp/{WITNESS}", b"x")]),
    "zip of a path upward": zipped([*HONEST_ZIP, (f"archive/../../{WITNESS}", b"x")]),
    "zip of a path upward with backslashes": zipped([*HONEST_ZIP, (f"..\\{WITNESS}", b"x")]),
    "zip, two pickles": zipped([*HONEST_ZIP, ("other/data.pkl", ONE)]),
    "zip, one name twice": zipped(HONEST_ZIP * 2),
    "zip, foreign byte order": zipped([*HONEST_ZIP, ("archive/byteorder", b"big")]),
    "zip, storage of two types": torch_zip(table({"a": tensor(), "b": tensor(kind="Double")}), ZEROS),
    "zip, storage is empty": torch_zip(ONE, {"0": b""}),
    "zip, strides overflow 64 bits": torch_zip(
        table({"a": tensor((16385,), (1 << 47,), kind="Double")}), {"0": bytes(40_000)}
    ),
    "zip, overlapping windows": torch_zip(
        table({str(i): tensor((200, 1500), (0, 1)) for i in range(8)}), {"0": bytes(6000)}
    ),
    "legacy, huge storage": LEGACY + struct.pack("<q", 1 << 60) + bytes(24),
    "legacy, negative storage": LEGACY + struct.pack("<q", -3) + bytes(24),
    "legacy, storage is not there": torch_legacy(ONE, {}),
    "legacy, storage is unknown": torch_legacy(ONE, {"7": bytes(24)}),
    "legacy, storages are no list": torch_legacy(ONE, {})[:-2] + b"K\1.",
    "legacy, storages are a text": torch_legacy(ONE, {})[:-2] + text("0" * 1000) + b"." + bytes(8000),
    "legacy, only the magic number": program(integer(0x1950A86A20F9469CFC6C)),
    "safetensors, huge header": struct.pack("<Q", 1 << 30) + b"{" + bytes(100),
    "safetensors, header beyond the end": struct.pack("<Q", 1000) + b"{}" + bytes(100),
    "safetensors, array beyond the end": safetensors({"a": entry()}, bytes(23)),
    "safetensors, bytes left over": safetensors({"a": entry()}, bytes(25)),
    "safetensors, hole": safetensors({"a": entry(), "b": entry(offsets=(28, 52))}, bytes(52)),
    "safetensors, overlap": safetensors({"a": entry(), "b": entry(offsets=(0, 24))}, bytes(24)),
    "safetensors, backward": safetensors({"a": entry(offsets=(24, 0))}, bytes(24)),
    "safetensors, another type": safetensors({"a": entry(kind="F64")}, bytes(24)),
    "safetensors, unknown type": safetensors({"a": entry(kind="O8")}, bytes(24)),
    "safetensors, type of four bits": safetensors({"a": entry((48,), "F4")}, bytes(24)),
    "safetensors, negative size": safetensors({"a": entry((-2, -3))}, bytes(24)),
    "safetensors, fractional size": safetensors({"a": entry((2.5, 3))}, bytes(24)),
    "safetensors, overflowing size": safetensors({"a": entry((1 << 40, 1 << 40, 6))}, bytes(24)),
    "safetensors, huge and empty": safetensors({"a": entry((1 << 60, 0), offsets=(0, 0))}),
    "safetensors, many dimensions": safetensors({"a": entry((2, 3, *[1] * 99))}, bytes(24)),
    "safetensors, one name twice": safetensors('{"a":X,"a":X}'.replace("X", str(entry()).replace("'", '"')), bytes(24)),
    "safetensors, deep header": safetensors('{"a":' + "[" * 100_000),
    "safetensors, deep metadata": safetensors('{"__metadata__":' + '{"a":' * 50_000 + "1" + "}" * 50_001),
    "safetensors, huge number": safetensors('{"a":{"dtype":"F32","shape":[' + "9" * 100_000 + "]}}"),
    "safetensors, half characters": safetensors('{"\\ud800":' + str(entry()).replace("'", '"') + "}", bytes(24)),
    "safetensors, long name": safetensors({"x" * 5000: entry()}, bytes(24)),
    "safetensors, no text": safetensors(b'{"\xff":{}}'),
    "safetensors, many arrays": safetensors({str(i): entry((0,), "U8", (0, 0)) for i in range(20_001)}),
    "numpy's own format": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (1,)}\n" + GADGETS["GLOBAL"],
    "pickle of protocol 0": b"cos\nsystem\n(S'touch x'\ntR.",
    "gzip": b"\x1f\x8b\x08\x00" + bytes(100),
    "tar": b"./data.pkl".ljust(257, b"\0") + b"ustar\x0000" + bytes(247),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a web page": b"<!DOCTYPE html>" * 9,
    "zeros": bytes(1000),
    "one byte": b"\x80",
}  # fmt: skip

CORPUS: dict[str, bytes] = {
    **{f"pickle, {name}": data for name, data in GADGETS.items()},
    **{f"zip, pickle, {name}": torch_zip(data, {}) for name, data in GADGETS.items()},
    **{f"bomb, {name}": data for name, data in BOMBS.items()},
    **{f"array {name}": table({"a": array}) for name, array in ARRAYS.items()},
    "arrays of one text": table(
        {"0": numpy_array((5000,), numpy_dtype("u1"), raw=MEMOIZED)}
        | {str(i): numpy_array((5000,), numpy_dtype("u1"), raw=RECALLED) for i in range(500)}
    ),
    **{f"window {name}": torch_zip(table({"a": window}), ZEROS) for name, window in WINDOWS.items()},
    **{f"name {name}": table(arrays) for name, arrays in NAMES.items()},
    **CONTAINERS,
}
"""What it tries → the file."""
