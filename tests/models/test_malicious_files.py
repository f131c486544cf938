"""No file of weights runs anything, writes anything, or costs more than its length is worth."""

import os
import pickle
import sys
import types

import pytest

from clan.core.errors import WeightsError
from clan.models.weight_files import read_arrays
from tests.models.forge import honest_files, named, numpy_array, program, table
from tests.models.malicious import CORPUS, GADGETS, WITNESS
from tests.models.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("attack", CORPUS)
def test_a_malicious_file_is_refused_and_does_nothing(attack, sandbox, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(CORPUS[attack])
    outcome = sandbox.read(path)
    assert not outcome.faults
    assert outcome.message, "it was read"


@pytest.mark.parametrize("kind", honest_files())
def test_the_same_process_reads_honest_files(kind, sandbox, tmp_path):
    for data in honest_files()[kind]:
        (tmp_path / "weights").write_bytes(data)
        outcome = sandbox.read(tmp_path / "weights")
        assert (outcome.message, outcome.faults) == (None, ())


def test_no_name_is_looked_up(tmp_path, monkeypatch):
    trap = types.ModuleType("trap")
    trap.__getattr__ = lambda name: pytest.fail(f"looked up {name}")
    monkeypatch.setitem(sys.modules, "trap", trap)
    (tmp_path / "weights").write_bytes(program(named("trap anything")))
    with pytest.raises(WeightsError, match=r"trap anything: save the network's state_dict\(\) alone"):
        read_arrays(tmp_path / "weights")


# --- What is no ordinary file ---


def test_what_is_no_ordinary_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").touch()
    refusals = {
        tmp_path: "is a folder",
        tmp_path / "absent": r"cannot be read \(No such file",
        tmp_path / "pipe": "is no ordinary file",
        tmp_path / "link": "is no ordinary file",
        tmp_path / "loop": r"cannot be read \(Too many levels",
        tmp_path / "empty": "is empty",
        tmp_path / "empty" / "below": r"cannot be read \(Not a directory",
        type(tmp_path)("/dev/zero"): "is no ordinary file",
        type(tmp_path)("/proc/self/maps"): "is empty|is still being written",
    }
    for path, message in refusals.items():
        with pytest.raises(WeightsError, match=message):
            read_arrays(path)


def test_a_file_that_becomes_a_pipe_is_refused_without_waiting(tmp_path, monkeypatch):
    ordinary = tmp_path / "weights"
    ordinary.write_bytes(table({"a": numpy_array()}))
    os.mkfifo(tmp_path / "pipe")
    plain = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: plain(tmp_path / "pipe", *rest))
    with pytest.raises(WeightsError, match="is no ordinary file"):
        read_arrays(ordinary)


def test_a_file_that_grows_is_not_read_to_its_end(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(table({"a": numpy_array()}))
    plain = os.fstat

    def grow(descriptor):
        status = plain(descriptor)
        with path.open("ab") as file:
            file.truncate(1 << 40)
        return status

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(WeightsError, match="is still being written"):
        read_arrays(path)


def test_a_larger_file_than_any_network_is_refused_unread(tmp_path):
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="has 1099511627776 bytes"):
        read_arrays(tmp_path / "weights")


# --- The sandbox itself ---


def unpickle(path):
    return pickle.loads(path.read_bytes())


def hang(path):
    while True:
        pass


def die(path):
    os._exit(7)


def take_memory(path):
    bytearray(1 << 30)


def take_some_memory(path):
    bytearray(100 << 20)
    raise WeightsError(f"{path} is refused")


def write(path):
    path.with_name(WITNESS).write_bytes(b"x")


@pytest.mark.parametrize(
    "reader, fault",
    [
        (unpickle, "pickle.find_class"),
        (hang, "hung"),
        (die, "died with code 7"),
        (take_memory, "MemoryError"),
        (take_some_memory, "took 104"),
        (write, "open "),
    ],
)
def test_a_careless_reader_would_be_found_out(reader, fault, tmp_path):
    (tmp_path / "weights").write_bytes(GADGETS["GLOBAL"])
    with Sandbox(reader, time_limit=2) as sandbox:
        faults = " ".join(sandbox.read(tmp_path / "weights").faults)
    assert fault in faults
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
