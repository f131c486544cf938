"""A YAML file gives plain values and their lines, or one sentence that names the line; never more than it holds."""

import os
import re
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clan.core.errors import ConfigError
from clan.core.yaml_file import parse_yaml, read_yaml, to_yaml_text
from clan.evaluation.label_maps import options_for
from clan.run.config import load, to_yaml


def mappings(values):
    return st.dictionaries(st.text(max_size=9) | st.integers(), values, max_size=3)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
nested = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | mappings(inner), max_leaves=20)


@given(mappings(nested))
def test_what_is_written_comes_back(values):
    assert parse_yaml(to_yaml_text(values).encode(), Path("x.yaml")).values == values


def test_files_written_by_pyyaml_are_read():
    values = {"rate": 5e-5, "big": 1e22, "none": None, "yes": "no", "on": True, "date": "2020-01-01", "0x1F": [1.5, -2]}
    assert parse_yaml(yaml.safe_dump(values).encode(), Path("x.yaml")).values == values


def test_lines_are_those_of_the_entries(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("# a comment\nname: x\n\nloss:\n  gamma: 2.0\n  scales: [1,\n    2]\nids: {7: a,\n 8: b}\n")
    document = read_yaml(path)
    assert document.values == {"name": "x", "loss": {"gamma": 2.0, "scales": [1, 2]}, "ids": {7: "a", 8: "b"}}
    places = {("name",): 2, ("loss",): 4, ("loss", "gamma"): 5, ("loss", "scales", 0): 6, ("loss", "scales", 1): 7}
    assert {place: document.line(place) for place in places} == places
    assert document.line(("ids", 8)) == 9
    assert document.line(("loss", "absent", 3)) == 4, "the closest entry around it"
    assert document.where(("loss", "gamma")) == f"{path}, line 5"
    assert document.where(()) == str(path)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
TOO_LONG = "1" * 200
REFUSED = {
    "billion laughs": (LAUGHS, r"line 2: \*a0 refers to another entry: write it out"),
    "an entry of itself": ("a: &a [*a]", r"line 1: \*a refers"),
    "a merge": ("a: &a {b: 1}\nc:\n  <<: *a", r"line 3: .*(<<|\*a)"),
    "a merge without alias": ("c:\n  <<: {b: 1}", "line 2: << is no kind of value|line 2: a key"),
    "a key twice": ("loss:\n  gamma: 1\n  gamma: 2", "line 3: gamma is given twice, first in line 2: keep one"),
    "a key twice, far apart": ("a: 1\nb: {c: 2}\na: 3", "line 3: a is given twice, first in line 1"),
    "a number twice": ("1: a\n0x1: b", "line 2: 1 is given twice"),
    "deep lists": ("a: " + "[" * 20_000, "line 1: more than 20 levels"),
    "deep dashes": ("- " * 20_000, "line 1: more than 20 levels"),
    "deep keys": ("? " * 20_000, "line 1: more than 20 levels"),
    "deep mappings": ("".join(" " * i + "k:\n" for i in range(300)), r"line \d+: more than 20 levels"),
    "a list as key": ("[a]: 1", "line 1: a key is neither"),
    "true as key": ("a: 1\ntrue: 2", "line 2: a key is neither text nor a whole number: write it in quotes"),
    "a tag of Python": ("a: 1\nb: !!python/object/apply:os.system [x]", "line 2: .*is no kind of value"),
    "a tag of Python on text": ("b: !!python/name:os.system ''", "line 1: .*is no kind of value"),
    "a set": ("b: !!set {a}", "line 1: .*is no kind of value"),
    "bytes": ("b: !!binary aGFsbG8=", "line 1: .*is no kind of value"),
    "an int of a word": ("a: !!int word", "line 1: .*is no kind of value"),
    "a bool of a word": ("a: !!bool word", "line 1: .*is no kind of value"),
    "digits without end": (f"a: {TOO_LONG}", "line 1: a number of 200 characters"),
    "sums of sixtieths": ("a: 1" + ":1" * 1000, "line 1: a number of 2001 characters"),
    "a tab": ("a:\n\tb: 1", r"line 2: found character '\\t' that cannot start any token: indent with spaces"),
    "no colon": ("a: 1\nwords\nb: 2", "line 3: "),
    "an open bracket": ("a: [1,\n2", "line 2: "),
    "two documents": ("a: 1\n---\nb: 1", "line 2: "),
    "a list": ("- a", "holds a list, not a mapping"),
    "a word": ("word", "holds a single value, not a mapping"),
    "a comment": ("# nothing", "holds nothing, not a mapping"),
    "empty": ("", "is empty"),
    "a control character": ("a: \x00", "is not YAML"),
    "an escape to the terminal": ('"\\e[31m": 1\n"\\e[31m": 1', r"line 2: \\x1b\[31m is given twice"),
    "no text": (b"a: \xff", "is not UTF-8 text at byte 3"),
    "UTF-16": ("a: 1".encode("utf-16"), "is not UTF-8 text"),
    "a huge file": ("a: 1\n" + "#" * (64 << 10), "has 65541 bytes, over the limit of 65536"),
    "a long tag": ("a: !" + "x" * 20_000 + "!y z", "line 1: found undefined tag handle"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named_in_a_sentence(what, tmp_path):
    content, message = REFUSED[what]
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(ConfigError, match=message) as caught:
            read_yaml(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    assert len(text) < len(str(path)) + 300
    assert peak < 20 << 20
    assert time.perf_counter() - started < 20


def test_what_is_no_ordinary_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in {tmp_path: "is a folder", tmp_path / "pipe": "no ordinary", tmp_path / "x": "No such"}.items():
        with pytest.raises(ConfigError, match=message):
            read_yaml(path)


def test_the_largest_file_takes_bounded_time_and_memory():
    tracemalloc.start()
    started = time.perf_counter()
    parse_yaml(("a: [" + "1, " * 21_000 + "1]").encode(), Path("x"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20
    assert time.perf_counter() - started < 60


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1:-?[]{}&*!|>'\"#%@`~,. \n\t\\\x85\u2028\ufeff\x07=<", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        document = parse_yaml(text.encode(), Path("x"))
    except ConfigError as error:
        assert re.match(r"x(, line \d+:| )", str(error))
        assert str(error).isprintable()
    else:
        assert isinstance(document.values, dict)


# --- The config.yaml beside a stranger's snapshot ---


def test_a_config_s_fault_is_named_with_its_line(tiny, tmp_path):
    lines = to_yaml(tiny()).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  gamma:"))
    lines[at] = "  gamma: -1"
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=rf"config\.yaml, line {at + 1}: loss\.gamma: .*got -1"):
        load(tmp_path / "config.yaml")


HOSTILE = {
    "classes": ("num_classes: 19", "num_classes: 1000000000000", r"line \d+: network.num_classes: .*255"),
    "backbone": ("backbone: resnet-tiny", "backbone: os.system", r"line \d+: network.backbone: "),
    "upsampling": ("evaluation_upsampling: bilinear", "evaluation_upsampling: [x]", r"line \d+: network.evaluation_up"),
    "key": ("network:\n", 'network:\n  "\\e[2J": 1\n', r"line \d+: network\.\\x1b\[2J is not an option"),
    "value": ("num_steps: 4", "num_steps: " + "x" * 9999, r"line \d+: num_steps: "),
    "laughs": ("num_steps: 4", LAUGHS, r"refers to another entry"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_config_beside_a_snapshot_ends_in_a_sentence(what, tiny, tmp_path):
    honest, hostile, message = HOSTILE[what]
    text = to_yaml(tiny())
    assert honest in text
    (tmp_path / "config.yaml").write_text(text.replace(honest, hostile, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        options_for(tmp_path / "SYS_2.pdparams", num_classes=None, upsampling=None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
