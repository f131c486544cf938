"""No pickle runs anything, looks anything up, or costs more than its length is worth."""

import os
import pickle
import struct
import sys
import time
import tracemalloc
import types

import pytest

from clan.errors import WeightsError
from clan.models.weight_files import read_arrays

WITNESS = "clan_weights_witness"


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


def pack(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def program(*parts: bytes) -> bytes:
    return pickle.PROTO + b"\4" + b"".join(parts) + pickle.STOP


TOUCH = text(f"touch {WITNESS}")
SYSTEM = b"cos\nsystem\n"
ORDERED = b"ccollections\nOrderedDict\n"
NDARRAY = b"cnumpy\nndarray\n"
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n" + NDARRAY + pack() + text("b") + b"\x87R"
TENSOR = b"ctorch._utils\n_rebuild_tensor\n" + pack(b"N", b"K\0", pack(), pack()) + b"R"
STATE = b"}" + text("__class__") + ORDERED + b"s"

ATTACKS = {
    "GLOBAL": program(SYSTEM, pack(TOUCH), b"R"),
    "STACK_GLOBAL": program(text("os"), text("system"), b"\x93", pack(TOUCH), b"R"),
    "STACK_GLOBAL of no text": program(b"]", text("system"), b"\x93"),
    "eval": program(b"cbuiltins\neval\n", pack(text(f"open('{WITNESS}', 'w')")), b"R"),
    "getattr": program(b"cbuiltins\ngetattr\n", pack(ORDERED, text("__class__")), b"R"),
    "a dotted name": program(text("collections"), text("OrderedDict.__class__"), b"\x93"),
    "a name with a space": program(text("collections OrderedDict"), text(""), b"\x93"),
    "numpy.load": program(b"cnumpy\nload\n", pack(text("x.npy"), b"N", b"\x88"), b"R"),
    "INST": program(b"(", TOUCH, b"ios\nsystem\n"),
    "OBJ": program(b"(", SYSTEM, TOUCH, b"o"),
    "OBJ of a known name": program(b"(", ORDERED, b"o"),
    "NEWOBJ": program(b"csubprocess\nPopen\n", pack(TOUCH), b"\x81"),
    "NEWOBJ of a known name": program(NDARRAY, pack(pack(b"J\xff\xff\xff\x7f")), b"\x81"),
    "NEWOBJ_EX": program(NDARRAY, b")}", b"\x92"),
    "EXT1": program(b"\x82\1"),
    "EXT4": program(b"\x84\1\0\0\0"),
    "PERSID": program(b"Pos.system\n"),
    "BINPERSID": program(pack(text("module"), ORDERED, TOUCH, TOUCH, TOUCH), b"Q"),
    "BINPERSID of an unknown type": program(pack(text("storage"), b"N", text("0")), b"Q"),
    "REDUCE of data": program(text("os.system"), pack(TOUCH), b"R"),
    "REDUCE of an array": program(EMPTY_ARRAY, pack(TOUCH), b"R"),
    "REDUCE of a type": program(b"ctorch\nFloatStorage\n", pack(TOUCH), b"R"),
    "REDUCE of ndarray": program(NDARRAY, pack(pack(b"J\xff\xff\xff\x7f")), b"R"),
    "REDUCE with a list": program(ORDERED, b"]", b"R"),
    "BUILD of a function": program(ORDERED, STATE, b"b"),
    "BUILD of a tensor": program(TENSOR, STATE, b"b"),
    "BUILD of a dict": program(ORDERED, b")R", STATE, b"b"),
    "BUILD of an array": program(b"}", text("a"), EMPTY_ARRAY, STATE, b"bs"),
    "SETITEM of an array": program(EMPTY_ARRAY, text("state"), b"Ns"),
    "APPEND to a dict": program(b"}Na"),
    "NEXT_BUFFER": program(b"\x97"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"executed {command}"))
    (tmp_path / "weights").write_bytes(ATTACKS[name])
    with pytest.raises(WeightsError):
        read_arrays(tmp_path / "weights")
    assert not (tmp_path / WITNESS).exists()


def test_no_name_is_looked_up(tmp_path, monkeypatch):
    trap = types.ModuleType("trap")
    trap.__getattr__ = lambda name: pytest.fail(f"looked up {name}")
    monkeypatch.setitem(sys.modules, "trap", trap)
    (tmp_path / "weights").write_bytes(program(b"ctrap\nanything\n"))
    with pytest.raises(WeightsError, match=r"trap anything: save the network's state_dict\(\) alone"):
        read_arrays(tmp_path / "weights")


def doubled(times: int) -> bytes:
    """A tuple of itself twice, again and again: few bytes, but exponential time to walk, hash or compare."""
    return b")" + b"q\0h\0\x86" * times


MANY = b"(" + b"N" * 10_000 + b"tq\0"
DTYPE = b"cnumpy\ndtype\n"
BOMBS = {
    "huge bytes": program(b"\x8e" + struct.pack("<Q", 1 << 62)),
    "huge text": program(b"X\xff\xff\xff\xff" + b"x"),
    "huge integer": program(b"\x8b" + struct.pack("<i", 1_000_000) + bytes(1_000_000)),
    "huge decimal": program(b"L" + b"9" * 1_000_000 + b"L\n"),
    "huge memo": program(b"Nr\xff\xff\xff\xff"),
    "huge frame": program(b"\x95" + b"\xff" * 8 + b"}"),
    "many objects": program(b"}" * 310_000),
    "deep lists": program(b"]" * 100_000 + b"a" * 99_999),
    "deep tuples": program(b")" + b"\x85" * 100_000),
    "deep marks": program(b"(" * 100_000),
    "deep arrays": program(b"}" + text("a") + EMPTY_ARRAY * 20_000 + b"b" * 19_999 + b"s"),
    "a key of tuples": program(b"}" + doubled(99) + b"Ns"),
    "a storage's type of tuples": program(pack(text("storage"), doubled(99), text("0")) + b"Q"),
    "a number format of tuples": program(
        b"}", text("a"), EMPTY_ARRAY, b"(K\1(t", DTYPE, doubled(99), b"\x85R(N", text("<"), b"tb\x89Ntbs"
    ),
    "calls with many arguments": program(MANY, (DTYPE + b"h\0R0") * 10_000),
    "storages with many entries": program(MANY, b"h\0Q" * 10_000),
    "a dict of itself": program(b"}q\0" + text("model") + b"h\0s"),
    "a list of itself": program(b"]q\0h\0a"),
    "nothing on the stack": program(b""),
    "more marks than stacks": program(b"t"),
    "an odd number of items": program(b"}(", text("a"), b"u"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_neither_memory_nor_time(name, tmp_path):
    (tmp_path / "weights").write_bytes(BOMBS[name])
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError):
            read_arrays(tmp_path / "weights")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300 * len(BOMBS[name]) + 1_000_000, "an instruction makes at most one small object"
    assert time.perf_counter() - started < 20  # seconds where a walk of the doubled tuples takes centuries
