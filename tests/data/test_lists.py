"""The forms in which lists name images, as a table, and what is said of lines that name none."""

import pytest

from clan.core.errors import DataError
from clan.data.lists import ImageIndex, choose, read_lines, repeated

IMAGES = ("images/a 1.jpg", "images/b.jpg", "images/b.x.png", "images/night/c.jpg", "images/b.jpeg", "images/#5.jpg")
KNOWN = ImageIndex(
    {image: f"labels/{image.removeprefix('images/').rpartition('.')[0]}.png" for image in IMAGES},
    folder="images",
    label_folder="labels",
    list_folder="lists",
    roots=("/data/mine",),
)
NIGHT = "images/night/c.jpg"

ONE = {
    "below the image folder": "night/c.jpg",
    "below the root": "images/night/c.jpg",
    "from the list's folder": "../images/night/c.jpg",
    "absolute": "/data/mine/images/night/c.jpg",
    "from beside the root": "mine/images/night/c.jpg",
    "slash in front": "/night/c.jpg",
    "slash in front, below the root": "/images/night/c.jpg",
    "dot in front": "./night/c.jpg",
    "dots and doubled slashes": ".//images/./night//c.jpg",
    "backslashes": ".\\images\\night\\c.jpg",
    "no suffix": "night/c",
    "no suffix, below the root": "images/night/c",
    "quoted": '"night/c.jpg"',
    "quoted otherwise": "'night/c.jpg'",
    "comment": "night/c.jpg  # at dusk",
    "its label": "labels/night/c.png",
    "its label below the label folder": "night/c.png",
    "pair": "images/night/c.jpg labels/night/c.png",
    "pair by tab": "night/c.jpg\tnight/c.png",
    "pair by comma": "night/c.jpg,night/c.png",
    "pair by comma and blank": "night/c.jpg, labels/night/c.png",
    "pair by semicolon": "night/c.jpg;night/c.png",
    "pair with slashes": "/images/night/c.jpg /labels/night/c.png",
    "pair without suffixes": "night/c night/c",
    "pair, absolute": "/data/mine/images/night/c.jpg /data/mine/labels/night/c.png",
    "pair, quoted": '"night/c.jpg","night/c.png"',
    "pair with comment": "night/c.jpg night/c.png # at dusk",
    "trailing comma": "night/c.jpg,",
}


@pytest.mark.parametrize("form", ONE)
def test_a_line_names_an_image(form):
    assert choose([(1, ONE[form])], KNOWN) == [NIGHT]


NAMES = {
    "a 1.jpg": "images/a 1.jpg",
    "a 1": "images/a 1.jpg",
    "a 1.jpg a 1.png": "images/a 1.jpg",
    "images/a 1.jpg\tlabels/a 1.png": "images/a 1.jpg",
    '"a 1.jpg" "a 1.png"': "images/a 1.jpg",
    "b.x": "images/b.x.png",
    "#5.jpg": "images/#5.jpg",
    "#5": "images/#5.jpg",
}


@pytest.mark.parametrize("line", NAMES)
def test_blanks_dots_and_hashes_in_names(line):
    assert choose([(1, line)], KNOWN) == [NAMES[line]]


@pytest.mark.parametrize("header", ["image,label", "Image", "file_name\tmask", '"image","label"'])
def test_headers_comments_and_repetitions(header):
    lines = [(1, "# the night"), (2, header), (3, "night/c.jpg"), (5, "#"), (6, "a 1.jpg"), (7, "night/c")]
    chosen = choose(lines, KNOWN)
    assert chosen == [NIGHT, "images/a 1.jpg", NIGHT]
    assert repeated(chosen) == "1 images are listed more than once and count as often, first images/night/c.jpg"
    assert not repeated(chosen[:2])


REFUSED = {
    "upper case": (["night/C.JPG"], "line 1 names night/C.JPG, but the file is images/night/c.jpg: write upper"),
    "upper case in a pair": (["Night/c.jpg night/c.png"], "names Night/c.jpg, but the file is images/night/c.jpg"),
    "upper case without suffix": (["night/C"], "but the file is images/night/c.jpg"),
    "two suffixes": (["b"], "line 1 names b, which is images/b.jpg as well as images/b.jpeg: name one of them"),
    "another folder": (["a 1.jpg", "/disk/night/c.jpg"], "line 2 names /disk/night/c.jpg, which is no image of this"),
    "the nearest": (["/disk/night/c.jpg"], "(the nearest is images/night/c.jpg)"),
    "mistyped": (["night/cc.jpg"], "(the nearest is images/night/c.jpg)"),
    "an example": (["night/d.jpg"], '"a 1.jpg" or, with its label, "images/a 1.jpg labels/a 1.png"'),
    "many": (["x.jpg", "y.jpg", "night/c.jpg"], "(2 lines are like it)"),
    "another label": (["a 1.jpg labels/b.png"], "the label labels/b.png, but the description's is labels/a 1.png"),
    "label of another folder": (["a 1.jpg old/a 1.png"], "line 1 gives images/a 1.jpg the label old/a 1.png"),
    "a third column": (["night/c.jpg night/c.png 3"], "the label night/c.png 3"),
    "presence instead of a label": (["night/c.jpg -1"], "the label -1"),
    "label first": (["label,image", "night/c.png,night/c.jpg"], "line 1 names the columns label, image"),
    "comments alone": (["# night/c.jpg"], "it names no image"),
    "header alone": (["image"], "it names no image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_says_what_a_line_must_be(case):
    lines, message = REFUSED[case]
    with pytest.raises(DataError) as error:
        choose(list(enumerate(lines, start=1)), KNOWN)
    assert message in str(error.value)


def test_labels_that_are_not_described_are_left_alone():
    bare = ImageIndex(dict.fromkeys(KNOWN.labels), folder="images")
    assert choose([(1, "night/c.jpg masks/c.png")], bare) == [NIGHT]
    with pytest.raises(DataError, match=r"line 1 has .-1. after images/night/c.jpg"):
        choose([(1, "night/c.jpg -1")], bare)


TEXT = "a.jpg\nübung.jpg\n"
FILES = {
    "plain": TEXT.encode(),
    "byte order mark": TEXT.encode("utf-8-sig"),
    "Windows": TEXT.replace("\n", "\r\n").encode(),
    "old Mac": TEXT.replace("\n", "\r").encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, little": TEXT.encode("utf-16-le"),
    "UTF-16, big": TEXT.encode("utf-16-be"),
    "blanks": TEXT.replace("\n", " \t\n\n \n").encode(),
    "no line end": TEXT.rstrip().encode(),
}


@pytest.mark.parametrize("kind", FILES)
def test_whatever_program_has_saved_a_list(kind, tmp_path):
    (tmp_path / "list.txt").write_bytes(FILES[kind])
    assert [line for _, line in read_lines(tmp_path / "list.txt")] == ["a.jpg", "übung.jpg"]


def test_names_that_are_not_utf_8_and_lists_that_are_none(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("街.jpg\n".encode("gbk"))
    assert read_lines(path) == [(1, "街.jpg".encode("gbk").decode("utf-8", "surrogateescape"))]
    for content, message in ((b" \n\n", "is empty"), (b"\x89PNG\0\0\r\n", "is no text"), (b"", "is empty")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_lines(path)
    with pytest.raises(DataError, match="is a folder"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match=r"cannot read the list .*nowhere\.txt"):
        read_lines(tmp_path / "nowhere.txt")
