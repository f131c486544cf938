"""What is written comes back, in every format; what cannot be written leaves no trace."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clan.core.errors import WeightsError
from clan.models.weight_files import read_arrays, write_arrays
from tests.needs import module

SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors")
EXAMPLE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "nothing": np.zeros((0, 3), np.float32),
}


def assert_same(left, right):
    assert set(left) == set(right)
    for name, array in left.items():
        other = right[name]
        assert (array.shape, array.dtype, array.tobytes()) == (other.shape, other.dtype, other.tobytes())


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


def test_paddle_reads_what_is_written(tmp_path):
    import paddle

    write_arrays(EXAMPLE, tmp_path / "w.pdparams")
    loaded = paddle.load(str(tmp_path / "w.pdparams"))
    assert_same({name: value.numpy() for name, value in loaded.items()}, EXAMPLE)


def test_pytorch_reads_what_is_written(tmp_path):
    torch = module("torch", "torch")
    write_arrays(EXAMPLE, tmp_path / "w.pth")
    loaded = torch.load(tmp_path / "w.pth", weights_only=True)
    assert_same({name: value.numpy() for name, value in loaded.items()}, EXAMPLE)


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
    with pytest.raises(WeightsError, match=r"cannot be written .*No such file"):
        write_arrays(EXAMPLE, tmp_path / "absent" / "w.pth")
