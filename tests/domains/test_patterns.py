import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.domains.patterns import Pattern

NAMES = st.text("abcXYZ019_-", min_size=1, max_size=6)


def touched(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@given(st.fixed_dictionaries({"split": NAMES, "city": NAMES, "name": NAMES}))
def test_what_a_pattern_fills_it_finds_again(tmp_path_factory, parts):
    pattern = Pattern("a/{split}/{city}/{city}.{name}_x.png")
    path = pattern.fill(parts)
    root = touched(tmp_path_factory.mktemp("root"), path)
    assert list(pattern.find(root, {})) == [(path, parts)]
    assert list(pattern.find(root, {"split": parts["split"]})) == [(path, parts)]
    assert list(pattern.find(root, {"split": parts["split"] + "!"})) == []


FOUND = {
    "{name}.png": ["a.png"],
    "*.png": ["a.png"],
    "{folder}/{name}.*": ["one/b.jpg", "one/c.png"],
    "{name:path}.png": ["a.png", "one/c.png", "one/two/d.png"],
    "one/{name:path}.png": ["one/c.png", "one/two/d.png"],
    "{name}/{name}.png": ["e/e.png"],
    "one/?.jpg": ["one/b.jpg"],
    "{name}.PNG": [],
    "[ab].png": [],
    "nowhere/{name}.png": [],
}


@pytest.mark.parametrize("text", FOUND)
def test_what_is_found(text, tmp_path):
    files = ["a.png", ".hidden.png", "one/b.jpg", "one/c.png", "one/._c.png", "one/two/d.png", ".git/f.png", "e/e.png"]
    root = touched(tmp_path, *files)
    expected = FOUND[text] if text != "{name:path}.png" else sorted([*FOUND[text], "e/e.png"])
    if text == "{folder}/{name}.*":
        expected = ["e/e.png", *expected]
    assert [path for path, _ in Pattern(text).find(root, {})] == expected


@pytest.mark.parametrize("text", ["", "/abs/{name}", "../{name}.png", "{Name}.png", "{name", "{name!r}.png", "{}.png"])
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match=r"pattern|path"):
        Pattern(text)
