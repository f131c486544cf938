"""Files of weights: what is written comes back, and nothing that a stranger writes does harm.

The PyTorch files are built here from pickle instructions, so that honest ones and hostile ones look alike.
"""

import errno
import io
import os
import pickle
import struct
import sys
import time
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clan.errors import WeightsError
from clan.models.weight_files import read_arrays, write_arrays

SHARED = Path(__file__).parents[2].parent / "shared"
SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors")
EXAMPLE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "nothing": np.zeros((0, 3), np.float32),
}


# --- A small assembler of pickles ---


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


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


def table(entries: dict[str, bytes]) -> bytes:
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


def numpy_array(shape=(2, 3), code="f4", order="<", fortran=pickle.NEWFALSE, raw=None) -> bytes:
    core = "numpy.core.multiarray"
    raw = text(bytes(24).decode("latin1")) if raw is None else raw
    dtype_state = pack(integer(3), text(order), *[pickle.NONE] * 3, integer(-1), integer(-1), integer(0))
    dtype = call("numpy dtype", text(code), integer(0), integer(1)) + dtype_state + pickle.BUILD
    empty = call(f"{core} _reconstruct", named("numpy ndarray"), pack(integer(0)), text("b"))
    data = call("_codecs encode", raw, text("latin1"))
    return empty + pack(integer(1), pack(*map(integer, shape)), dtype, fortran, data) + pickle.BUILD


def torch_zip(pickled: bytes, storages: dict[str, bytes], compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
    return file.getvalue()


def torch_legacy(pickled: bytes, storages: dict[str, bytes], itemsize=4) -> bytes:
    head = program(integer(0x1950A86A20F9469CFC6C)) + program(integer(1001)) + program(pickle.EMPTY_DICT)
    keys = program(pickle.EMPTY_LIST, *(text(key) + pickle.APPEND for key in storages))
    tail = [struct.pack("<q", len(raw) // itemsize) + raw for raw in storages.values()]
    return b"".join([head, pickled, keys, *tail])


def read(path: Path, data: bytes) -> dict[str, np.ndarray]:
    path.write_bytes(data)
    return read_arrays(path)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights"


def assert_same(left, right):
    assert set(left) == set(right)
    for name, array in left.items():
        other = right[name]
        assert (array.shape, array.dtype) == (other.shape, other.dtype)
        assert array.tobytes() == other.tobytes()


# --- What is written comes back ---

dtypes = st.sampled_from(["f4", "f8", "i1", "i2", "i4", "i8", "u1", "?"])
arrays = dtypes.flatmap(lambda code: npst.arrays(np.dtype(code), npst.array_shapes(min_dims=0, min_side=0)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=30, deadline=None)
@given(table=st.dictionaries(st.text(max_size=20), arrays, min_size=1, max_size=4))
def test_every_format_returns_what_was_written(suffix, table, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"roundtrip{suffix}"
    write_arrays(table, path)
    assert_same(read_arrays(path), table)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_layout_does_not_matter(suffix, tmp_path):
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    layouts = {
        "fortran": np.asfortranarray(plain),
        "big": plain.astype(">f4"),
        "view": np.tile(plain, 2)[:, :3],
    }
    write_arrays(layouts, tmp_path / f"w{suffix}")
    assert_same(read_arrays(tmp_path / f"w{suffix}"), dict.fromkeys(layouts, plain))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_arrays_make_the_same_bytes(suffix, tmp_path):
    for name in "ab":
        write_arrays(EXAMPLE, tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_the_content_tells_the_format_not_the_suffix(tmp_path):
    for suffix in SUFFIXES:
        write_arrays(EXAMPLE, tmp_path / f"w{suffix}")
        assert_same(read_arrays((tmp_path / f"w{suffix}").rename(tmp_path / "w.bin")), EXAMPLE)


def test_paddle_and_pytorch_read_what_is_written(tmp_path):
    import paddle

    write_arrays(EXAMPLE, tmp_path / "w.pdparams")
    loaded = paddle.load(str(tmp_path / "w.pdparams"))
    assert_same({name: value.numpy() for name, value in loaded.items()}, EXAMPLE)
    torch = pytest.importorskip("torch")
    write_arrays(EXAMPLE, tmp_path / "w.pth")
    loaded = torch.load(tmp_path / "w.pth", weights_only=True)
    assert_same({name: value.numpy() for name, value in loaded.items()}, EXAMPLE)


# --- Files of others ---


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_paddle_files(protocol, tmp_path):
    import paddle

    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    expected = {name: value.numpy() for name, value in layer.state_dict().items()}
    for content in (layer.state_dict(), {"epoch": 3, "model": layer.state_dict()}):  # arrays; (name, array)
        paddle.save(content, str(tmp_path / "w.pdparams"), protocol=protocol)
        assert_same(read_arrays(tmp_path / "w.pdparams"), expected)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_older_paddle_files(protocol, file):
    content = {"a": EXAMPLE["conv.weight"], "StructuredToParameterName@@": {"a": "conv2d_0.w_0"}, "step": 3}
    assert_same(read(file, pickle.dumps(content, protocol)), {"a": content["a"]})


@pytest.mark.parametrize("shape, fortran", [((2, 3), pickle.NEWFALSE), ((3, 2), pickle.NEWTRUE)])
@pytest.mark.parametrize("order", "<>")
def test_numpy_layouts(shape, fortran, order, file):
    raw = text(np.arange(6, dtype=f"{order}f4").tobytes().decode("latin1"))
    array = read(file, table({"a": numpy_array(shape, order=order, fortran=fortran, raw=raw)}))["a"]
    plain = np.arange(6, dtype=np.float32)
    assert_same({"a": array}, {"a": plain.reshape(2, 3) if shape == (2, 3) else plain.reshape(2, 3).T})


@pytest.mark.parametrize("pack_file", [torch_zip, torch_legacy])
def test_pytorch_tensors_are_windows_of_storages(pack_file, file):
    raw = np.arange(6, dtype=np.float32)
    entries = {
        "plain": tensor(),
        "transposed": tensor((3, 2), (1, 3)),
        "slice": tensor((2,), (2,), offset=1),
        "expanded": tensor((4, 2), (0, 1)),
        "scalar": tensor((), (), offset=5),
        "parameter": call("torch._utils _rebuild_parameter", tensor(), pickle.NEWTRUE, pickle.NONE),
        "epoch": integer(3),
    }
    expected = {
        "plain": raw.reshape(2, 3),
        "transposed": raw.reshape(2, 3).T.copy(),
        "slice": raw[1:5:2].copy(),
        "expanded": np.tile(raw[:2], (4, 1)),
        "scalar": raw[5].reshape(()),
        "parameter": raw.reshape(2, 3),
    }
    assert_same(read(file, pack_file(table(entries), {"0": raw.tobytes()})), expected)


@pytest.mark.parametrize("kind, bits", [("Half", 0x3E00), ("BFloat16", 0x3FC0)])
def test_half_precision_becomes_float32(kind, bits, file):
    raw = np.full(6, bits, "<u2").tobytes()
    for data in (torch_zip(table({"a": tensor(kind=kind)}), {"0": raw}),
                 torch_legacy(table({"a": tensor(kind=kind)}), {"0": raw}, itemsize=2)):  # fmt: skip
        assert_same(read(file, data), {"a": np.full((2, 3), 1.5, np.float32)})
    kind = {"Half": "F16", "BFloat16": "BF16"}[kind]
    header = f'{{"a":{{"dtype":"{kind}","shape":[2,3],"data_offsets":[0,12]}}}}'.encode()
    assert_same(
        read(file, struct.pack("<Q", len(header)) + header + raw), {"a": np.full((2, 3), 1.5, np.float32)}
    )


def test_a_paddle_file_keeps_bfloat16_as_uint16(file):
    bits = np.full(3, 0x3FC0, np.uint16)
    assert_same(read(file, pickle.dumps({"a": bits}, 4)), {"a": np.full(3, 1.5, np.float32)})


@pytest.mark.parametrize("keys", [["state_dict"], ["model"], ["network", "net", "model_state_dict"]])
def test_wrapped_tables_are_unwrapped(keys, file):
    content = EXAMPLE
    for key in keys:
        content = {
            "best": np.float64(0.5),
            "history": [1, 2],
            key: content,
            "note": "x",
            "step": EXAMPLE["nothing"],
        }
    assert_same(read(file, pickle.dumps(content, 4)), EXAMPLE)


def test_a_real_legacy_file_of_pytorch():
    path = SHARED / "weights" / "mobilenet_v2_imagenet.pt"
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared material is not part of the project")
    found = read_arrays(path)
    assert len(found) == 312
    assert found["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert found["features.0.1.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(array).all() for array in found.values())


# --- Harm ---

WITNESS = "clan_weights_witness"
"""What every attack below would create in the working folder or set in this process, had it its way."""


def attacks() -> dict[str, bytes]:
    touch = text(f"touch {WITNESS}")
    system = named("os system")
    stack_system = text("os") + text("system") + pickle.STACK_GLOBAL
    ordered = call("collections OrderedDict")
    evil_state = pickle.EMPTY_DICT + text("__class__") + system + pickle.SETITEM
    return {
        "global": program(system, pack(touch), pickle.REDUCE),
        "stack global": program(stack_system, pack(touch), pickle.REDUCE),
        "eval": program(call("builtins eval", text(f"open('{WITNESS}', 'w')"))),
        "getattr": program(call("builtins getattr", named("collections OrderedDict"), text("__class__"))),
        "dotted name": program(text("collections") + text("OrderedDict.__class__") + pickle.STACK_GLOBAL),
        "name with a space": program(text("collections OrderedDict") + text("x") + pickle.STACK_GLOBAL),
        "inst": program(pickle.MARK, touch, b"ios\nsystem\n"),
        "obj": program(pickle.MARK, system, touch, pickle.OBJ),
        "obj of an allowed name": program(pickle.MARK, named("collections OrderedDict"), pickle.OBJ),
        "newobj": program(named("subprocess Popen"), pack(touch), pickle.NEWOBJ),
        "newobj of an allowed name": program(named("numpy ndarray"), pack(pack(integer(1 << 40))), pickle.NEWOBJ),
        "newobj ex": program(named("numpy ndarray"), pack(), pickle.EMPTY_DICT, pickle.NEWOBJ_EX),
        "ext": program(pickle.EXT1, b"\x01"),
        "persid": program(b"Pos.system\n"),
        "persistent id": program(pack(text("module"), system, touch, touch, touch), pickle.BINPERSID),
        "storage of text": program(pack(text("storage"), text("O8"), text("0")), pickle.BINPERSID),
        "reduce of data": program(text("os.system"), pack(touch), pickle.REDUCE),
        "reduce of an array": program(numpy_array(), pack(touch), pickle.REDUCE),
        "reduce of a type": program(named("torch FloatStorage"), pack(touch), pickle.REDUCE),
        "build of a function": program(named("collections OrderedDict"), evil_state, pickle.BUILD),
        "build of a tensor": program(tensor(), evil_state, pickle.BUILD),
        "build of a dict": program(ordered, evil_state, pickle.BUILD),
        "build of an array": program(pickle.EMPTY_DICT, text("a"), numpy_array(), evil_state, pickle.BUILD, b"s"),
        "object array": table({"a": numpy_array(code="O8")}),
        "structured dtype": table({"a": numpy_array(code="f4,O")}),
        "wide text dtype": table({"a": numpy_array(code="U999999999")}),
        "numpy load": program(call("numpy load", text("x.npy"), pickle.NEWTRUE)),
    }  # fmt: skip


@pytest.mark.parametrize("name", attacks())
def test_nothing_is_executed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"executed {command}"))
    attack = attacks()[name]
    for data in (attack, torch_zip(attack, {"0": bytes(24)}), torch_legacy(attack, {})):
        with pytest.raises(WeightsError):
            read(tmp_path / "weights", data)
    assert not (tmp_path / WITNESS).exists()


def test_a_name_is_looked_up_nowhere(file, monkeypatch):
    trap = types.ModuleType("trap")
    trap.__getattr__ = lambda name: pytest.fail(f"looked up {name}")
    monkeypatch.setitem(sys.modules, "trap", trap)
    with pytest.raises(WeightsError, match=r"trap anything: save the network's state_dict\(\) alone"):
        read(file, program(named("trap anything")))


def doubled(times: int, first: bytes) -> bytes:
    """A tuple of itself twice, nested: a few bytes per level, exponential to walk, hash or compare."""
    return first + (pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.TUPLE2) * times


def bombs() -> dict[str, bytes]:
    zeros, torch_table = {"0": bytes(24)}, table({"a": tensor()})
    window = {
        "negative size": tensor((-2, -3)), "negative stride": tensor((2, 3), (-3, -1), offset=5),
        "negative offset": tensor(offset=-1), "beyond the end": tensor((2, 4), (4, 1)),
        "offset beyond the end": tensor(offset=1 << 40), "stride beyond the end": tensor((2, 3), (1 << 40, 1)),
        "overflowing size": tensor((1 << 40, 1 << 40, 0), (0, 0, 0)), "too many dimensions": tensor([1] * 99, [1] * 99),
        "enormous number": tensor((1 << 2000,), (0,)), "no strides": tensor((2, 3), ()),
        "expanded": tensor((1 << 30,), (0,)), "expanded to nothing": tensor((1 << 47, 1 << 47), (0, 0)),
    }  # fmt: skip
    hostile = {name: torch_zip(table({"a": entry}), zeros) for name, entry in window.items()}
    overlapping = {f"t{i}": tensor((200, 1500), (0, 1)) for i in range(8)}
    ten_thousand = pickle.MARK + (pickle.NONE * 10_000) + pickle.TUPLE + pickle.BINPUT + b"\x01"
    zip_bomb = torch_zip(torch_table, {"0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    lying_zip = torch_zip(torch_table, zeros)
    at = lying_zip.index(b"PK\x01\x02", lying_zip.index(b"PK\x01\x02") + 4)  # storage 0 in the directory
    lying_zip = lying_zip[: at + 20] + struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0) + lying_zip[at + 28 :]
    huge_numpy = [numpy_array((1 << 40,)), numpy_array((1 << 40, 0, 1 << 40)), numpy_array((-1, 6))]
    return hostile | {
        "overlapping": torch_zip(table(overlapping), {"0": bytes(6000)}),
        "two types": torch_zip(table({"a": tensor(), "b": tensor(kind="Double")}), zeros),
        "missing storage": torch_zip(table({"a": tensor(key="../../etc/passwd")}), zeros),
        "zip bomb": zip_bomb,
        "lying zip": lying_zip,
        "zip of many": b"PK\x03\x04" + b"PK\x01\x02" * 60_000,
        "legacy huge storage": torch_legacy(torch_table, {"0": b""})[:-8] + struct.pack("<q", 1 << 60) + bytes(24),
        "legacy negative storage": torch_legacy(torch_table, {"0": b""})[:-8] + struct.pack("<q", -3) + bytes(24),
        "legacy key of tuples": torch_legacy(torch_table, {})[:-1] + doubled(60, pickle.EMPTY_TUPLE) + b"a.",
        **{f"numpy {i}": table({"a": entry}) for i, entry in enumerate(huge_numpy)},
        "huge bytes": program(pickle.BINBYTES8 + struct.pack("<Q", 1 << 62)),
        "huge text": program(pickle.BINUNICODE + struct.pack("<I", 0xFFFFFFFF) + b"x"),
        "huge integer": program(b"\x8b" + struct.pack("<i", 1_000_000) + bytes(1_000_000)),
        "huge decimal": program(b"L" + b"9" * 3_000_000 + b"L\n"),
        "huge memo": program(pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff"),
        "huge frame": b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
        "many objects": program(pickle.EMPTY_DICT * 1_100_000),
        "deep lists": program(pickle.EMPTY_LIST * 300_000 + pickle.APPEND * 299_999),
        "deep marks": program(pickle.MARK * 300_000),
        "deep tuples": program(pickle.EMPTY_TUPLE + pickle.TUPLE1 * 300_000),
        "key of tuples": program(b"}" + doubled(60, pickle.EMPTY_TUPLE) + b"Ns"),
        "dtype of tuples": table({"a": numpy_array(code="f4").replace(text("f4"), doubled(60, b")"))}),
        "call with many": program(ten_thousand, (named("numpy dtype") + b"h\x01R0") * 10_000),
        "text repeated": table({f"a{i}": numpy_array((5000,), code="u1", raw=text("x" * 5000) + b"q\x05")
                                if i == 0 else numpy_array((5000,), code="u1", raw=b"h\x05") for i in range(500)}),
        "itself": program(b"}q\0" + text("model") + b"h\0s"),
        "header of a gigabyte": struct.pack("<Q", 1 << 30) + b"{" + bytes(100),
        "safetensors beyond the end": b"8\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}   ',
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_bombs_neither_fill_the_memory_nor_take_long(name, file):
    data = bombs()[name]
    file.write_bytes(data)
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read_arrays(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 400 + len(str(file))
    assert peak < 8 * len(data) + 100_000_000 * (len(data) > 200_000) + 1_000_000
    assert time.perf_counter() - started < 15


def valid_files() -> dict[str, bytes]:
    wrapped = {"state_dict": EXAMPLE}
    entries = {"plain": tensor(), "window": tensor((2,), (2,), offset=1), "array": numpy_array()}
    safetensors = b'{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   '
    return {
        "paddle 2": pickle.dumps(wrapped, 2),
        "paddle 4": pickle.dumps(wrapped, 4),
        "zip": torch_zip(table(entries), {"0": bytes(24)}),
        "legacy": torch_legacy(table(entries), {"0": bytes(24)}),
        "safetensors": struct.pack("<Q", len(safetensors)) + safetensors + bytes(24),
    }


@st.composite
def mutations(draw, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(["replace", "insert", "remove", "repeat", "cut"]))
        if kind == "replace":
            data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=length))
        elif kind == "remove":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", valid_files())
@settings(max_examples=250, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(choice=st.data())
def test_a_damaged_file_is_refused_or_read_within_bounds(name, choice, tmp_path_factory):
    original = valid_files()[name]
    data = choice.draw(mutations(original))
    try:
        found = read(tmp_path_factory.getbasetemp() / "mutated", data)
    except WeightsError:
        return
    assert all(isinstance(key, str) and isinstance(array, np.ndarray) for key, array in found.items())
    assert all(array.dtype != object and array.flags.c_contiguous for array in found.values())
    assert sum(array.nbytes for array in found.values()) <= 4 * len(data) + (1 << 16)


@pytest.mark.parametrize("name", valid_files())
def test_every_cut_is_noticed(name, file):
    original = valid_files()[name]
    assert read(file, original)
    for end in range(0, len(original), 7):
        with pytest.raises(WeightsError):
            read(file, original[:end])


# --- Messages ---


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty: download or save it again"),
        (b"<!DOCTYPE html>" * 9, "did its download end in a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "is none of .pdparams, .pth, .pt, .safetensors"),
        (program(pickle.EMPTY_DICT), "holds no named arrays"),
        (program(named("torch.nn.modules.container Sequential")), r"save the network's state_dict\(\) alone"),
        (pickle.dumps(EXAMPLE, 4)[:-40], "is damaged or cut short"),
        (torch_zip(table({"a": tensor()}), {"0": bytes(24)}, zipfile.ZIP_DEFLATED), "is a compressed zip"),
        (program(named("\x1b[31m red")), r"names the Python object \\x1b\[31m red"),
    ],
)
def test_a_message_names_the_file_the_fault_and_the_remedy(content, message, file):
    with pytest.raises(WeightsError, match=message) as caught:
        read(file, content)
    assert str(caught.value).startswith(f"{file} ")
    assert str(caught.value).isprintable()


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="is a folder"):
        read_arrays(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read .*No such file"):
        read_arrays(tmp_path / "absent.pdparams")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="is no ordinary file"):
        read_arrays(tmp_path / "pipe.pth")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"\.pdparams, \.pth, \.pt, \.safetensors"):
        write_arrays(EXAMPLE, tmp_path / "w.bin")


def test_a_type_that_pytorch_lacks_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="cannot hold a, whose type is uint64"):
        write_arrays({"a": np.zeros(2, np.uint64)}, tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match="No space left on device"):
        write_arrays(EXAMPLE, path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WeightsError, match="cannot be written .*No such file"):
        write_arrays(EXAMPLE, tmp_path / "absent" / "w.pth")
