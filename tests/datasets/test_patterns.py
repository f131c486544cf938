import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.core.errors import DataError
from clan.datasets.patterns import Pattern, escape, escape_glob, files_below

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
    "[ab].png": ["a.png"],
    "[!b-z].png": ["a.png"],
    "{name:?|c}.png": ["a.png"],
    "one/{name}.{end:jpg|png}": ["one/b.jpg", "one/c.png"],
    "{name:*[!d]}.png": ["a.png"],
    "nowhere/{name}.png": [],
    "{name:path}/a.png": [],
}


@pytest.mark.parametrize("text", FOUND)
def test_what_is_found(text, tmp_path):
    files = ["a.png", ".hidden.png", "one/b.jpg", "one/c.png", "one/._c.png", "one/two/d.png", ".git/f.png", "e/e.png"]
    root = touched(tmp_path, *files)
    expected = FOUND[text] if text != "{name:path}.png" else sorted([*FOUND[text], "e/e.png"])
    if text == "{folder}/{name}.*":
        expected = ["e/e.png", *expected]
    assert [path for path, _ in Pattern(text).find(root, {})] == expected


def test_every_name_can_be_written(tmp_path):
    names = ["run{1}", "x[01]", "[", "a*b?", "{name}", "]}{", "100%", "q'"]
    root = touched(tmp_path, *(f"{name}/{name}.png" for name in names), "x0/x0.png", "aXbY/aXbY.png")
    for name in names:
        path = f"{name}/{name}.png"
        assert [found for found, _ in Pattern(f"{escape(name)}/{escape(name)}.png").find(root, {})] == [path]
        assert [found for found, _ in Pattern("{folder}/{name}.png").find(root, {"name": escape_glob(name)})] == [path]


def test_links_are_followed_and_loops_end(tmp_path):
    root = touched(tmp_path / "root", "images/a.png", "images/deep/b.png")
    touched(tmp_path / "store", "c.png")
    for link, target in {"images/back": "..", "images/self": "self", "linked": "../store", "images/here": "."}.items():
        (root / link).symlink_to(target)
    (tmp_path / "store/home").symlink_to(root)
    assert sorted(files_below(root)) == ["images/a.png", "images/deep/b.png", "images/self", "linked/c.png"]
    found = [path for path, _ in Pattern("images/{name:path}.png").find(root, {})]
    assert found == ["images/a.png", "images/deep/b.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read the folder .*images \(Permission denied\)"):
        list(Pattern("images/{name}.png").find(touched(tmp_path, "images/a.png"), {}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/abs/{name}",
        "../{name}.png",
        "{Name}.png",
        "{name",
        "{name!r}.png",
        "{}.png",
        "[.png",
        "x}.png",
        "{a:}",
        "{a:b|}",
        "[z-a].png",
    ],
)
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match=r"pattern|path"):
        Pattern(text)
