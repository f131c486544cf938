"""Files of weights as others write them: honest ones are read, hostile and damaged ones refused.

The PyTorch files are built here from pickle instructions, so that honest ones and hostile ones look alike.
"""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clan.errors import WeightsError
from clan.models.weight_files import read_arrays

SHARED = Path(__file__).parents[2].parent / "shared"
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
        assert (array.shape, array.dtype, array.tobytes()) == (other.shape, other.dtype, other.tobytes())


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
    assert_same(read(file, struct.pack("<Q", len(header)) + header + raw), {"a": np.full((2, 3), 1.5, np.float32)})


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


def hostile_files() -> dict[str, bytes]:
    """Files whose declared sizes are not those of their bytes (hostile pickles: see test_safe_pickle)."""
    zeros, one = {"0": bytes(24)}, table({"a": tensor()})
    windows = {
        "negative size": tensor((-2, -3)),
        "negative stride": tensor((2, 3), (-3, -1), offset=5),
        "negative offset": tensor(offset=-1),
        "beyond the end": tensor((2, 4), (4, 1)),
        "offset beyond the end": tensor(offset=1 << 40),
        "stride beyond the end": tensor((2, 3), (1 << 40, 1)),
        "overflowing size": tensor((1 << 40, 1 << 40, 0), (0, 0, 0)),
        "too many dimensions": tensor([1] * 99, [1] * 99),
        "enormous number": tensor((1 << 2000,), (0,)),
        "no strides": tensor((2, 3), ()),
        "expanded": tensor((1 << 30,), (0,)),
        "expanded beyond all numbers": tensor((1 << 47, 1 << 47), (0, 0)),
        "missing storage": tensor(key="../../etc/passwd"),
    }
    arrays = {
        "huge": numpy_array((1 << 40,)),
        "huge and empty": numpy_array((1 << 40, 0, 1 << 40)),
        "negative": numpy_array((-1, 6)),
        "of objects": numpy_array(code="O8"),
        "of structures": numpy_array(code="f4,O"),
        "of text": numpy_array(code="U999999999"),
    }
    memoized = text("x" * 5000) + pickle.BINPUT + b"\5"
    repeated = [numpy_array((5000,), "u1", raw=raw) for raw in [memoized] + [pickle.BINGET + b"\5"] * 500]
    legacy = torch_legacy(one, {"0": b""})[:-8]
    lying = torch_zip(one, zeros)
    sizes = lying.rindex(b"PK\1\2") + 20  # of storage 0, in the zip's directory
    header = b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}  '
    return {
        **{f"window: {name}": torch_zip(table({"a": entry}), zeros) for name, entry in windows.items()},
        **{f"array: {name}": table({"a": entry}) for name, entry in arrays.items()},
        "repeated text": table({str(i): entry for i, entry in enumerate(repeated)}),
        "overlapping": torch_zip(table({str(i): tensor((200, 1500), (0, 1)) for i in range(8)}), {"0": bytes(6000)}),
        "two types": torch_zip(table({"a": tensor(), "b": tensor(kind="Double")}), zeros),
        "zip bomb": torch_zip(one, {"0": bytes(5_000_000)}, zipfile.ZIP_DEFLATED),
        "lying zip": lying[:sizes] + b"\xf0\xff\xff\xff" * 2 + lying[sizes + 8 :],
        "zip of many": b"PK\3\4" + b"PK\1\2" * 60_000,
        "legacy, huge storage": legacy + struct.pack("<q", 1 << 60) + bytes(24),
        "legacy, negative storage": legacy + struct.pack("<q", -3) + bytes(24),
        "safetensors, huge header": struct.pack("<Q", 1 << 30) + b"{" + bytes(100),
        "safetensors beyond the end": struct.pack("<Q", len(header)) + header + bytes(8),
    }


HOSTILE = hostile_files()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_lie_about_sizes_is_refused_before_memory_is_taken(name, file):
    file.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read_arrays(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(HOSTILE[name]) + 1_000_000
    assert len(str(caught.value)) < 400 + len(str(file))


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


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # pickletools, of damaged text
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
    with pytest.raises(WeightsError, match=r"cannot be read .*No such file"):
        read_arrays(tmp_path / "absent.pdparams")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="is no ordinary file"):
        read_arrays(tmp_path / "pipe.pth")
