"""Files of weights as others write them: honest ones are read, damaged ones refused (hostile ones: elsewhere)."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from clan.core.errors import WeightsError
from clan.models.weight_files import read_arrays
from tests.models.forge import (
    EXAMPLE,
    call,
    honest_files,
    integer,
    latin1,
    named,
    numpy_array,
    numpy_dtype,
    program,
    table,
    tensor,
    torch_legacy,
    torch_zip,
)
from tests.models.malicious import CORPUS
from tests.needs import needed
from tests.pages import ROOT

SHARED = ROOT.parent / "shared"


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
    raw = latin1(np.arange(6, dtype=f"{order}f4").tobytes())
    array = read(file, table({"a": numpy_array(shape, numpy_dtype(order=order), fortran, raw)}))["a"]
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
    scalar = read(file, torch_zip(table({"a": tensor((), (), kind=kind)}), {"0": raw}))["a"]
    assert_same({"a": scalar}, {"a": np.array(1.5, np.float32)})
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
    needed("shared", path.exists())
    found = read_arrays(path)
    assert len(found) == 312
    assert found["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert found["features.0.1.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(array).all() for array in found.values())


# --- Harm ---


@pytest.mark.parametrize("kind", honest_files())
def test_every_cut_is_noticed(kind, file):
    for original in honest_files()[kind]:
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
        (struct.pack("<Q", 2 << 20) + b"{", "has a header of 2097152 bytes, over the limit of 1048576"),
        (CORPUS["zip of many remarks"], "is a zip with a directory too large"),
        (CORPUS["legacy, storages are a text"], "impossible list of storages"),
        (CORPUS["bomb, a storage's name of millions"], "impossible storage"),
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
