"""Names in pictures and on terminals, in any script, with and without fonts that have it."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clan.cli.data import check_data
from clan.core import fonts as lettering
from clan.core.fonts import CHINESE, draw_text, font_with, text_width, writable
from clan.datasets.labels import LabelSpace
from clan.evaluation.overlays import legend
from clan.reporting.bars import print_bars
from tests.needs import needed

BYTES = "\udcb7\udcaf.png"
"""A file name that is not UTF-8, as Python has it."""

TEXTS = (
    "road",
    "道路 road",
    "日本語 カナ",
    "한국어",
    "שלום",
    "مرحبا",
    "😀👨‍👩‍👧",
    "\udcb7\udcaf.png",
    "a\tb\nc",
    "\ud800",
    "",
)


@pytest.fixture
def chinese():
    needed("fonts", font_with(CHINESE))


@pytest.fixture
def fresh():
    """What was found out about fonts is forgotten before and after."""
    caches = [value for value in vars(lettering).values() if hasattr(value, "cache_clear")]
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.fixture
def no_fonts(fresh, monkeypatch):
    monkeypatch.setattr(lettering, "installed", lambda: ())


def drawn(text, size=15):
    image = Image.new("RGB", (400, 30), "white")
    draw_text(ImageDraw.Draw(image), (5, 5), text, size, (0, 0, 0))
    return np.asarray(image)[..., 0] < 128


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_drawn_is_as_wide_as_it_is_measured(text):
    columns = np.flatnonzero(drawn(text).any(axis=0))
    assert (columns.size > 0) == (text != "")
    assert text == "" or columns[-1] <= 5 + text_width(text, 15) + 1


@pytest.mark.usefixtures("chinese")
def test_chinese_is_drawn_as_chinese():
    assert writable("道路 road 人行道") == "道路 road 人行道"
    assert 28 <= text_width("道路", 15) <= 34, "two squares"
    assert not np.array_equal(drawn("道"), drawn("路")), "not two boxes for what is lacking"


@pytest.mark.parametrize("text", TEXTS)
def test_without_fonts_nothing_is_lost(text, no_fonts):
    written, coding = writable(text), ("utf-16", "surrogatepass")
    assert written.isascii() and drawn(written).any() == (text != "")
    if text != BYTES:
        assert written.encode().decode("unicode_escape").encode(*coding) == text.encode(*coding)
    else:
        assert written == r"\xb7\xaf.png"
    np.testing.assert_array_equal(drawn(text), drawn(written))


@pytest.mark.usefixtures("chinese", "fresh")
def test_fonts_are_found_without_fontconfig(monkeypatch):
    monkeypatch.setattr(lettering.shutil, "which", lambda name: None)
    assert font_with(CHINESE)


@pytest.mark.usefixtures("fresh")
def test_files_that_are_no_fonts_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "cjk.ttf").write_bytes(b"not a font")
    monkeypatch.setattr(lettering, "_FOLDERS", {"linux": (str(tmp_path),)})
    monkeypatch.setattr(lettering.shutil, "which", lambda name: None)
    assert [path.name for path, _ in lettering.installed()] == ["cjk.ttf"]
    assert writable("路") == r"\u8def"


def test_legends_have_room_for_every_name():
    space = LabelSpace(tuple(filter(None, TEXTS)), ((9, 9, 9),) * (len(TEXTS) - 1))
    sheet = np.asarray(legend(space))
    assert (sheet[:, -10:] == 250).all(), "nothing reaches the right border"


def test_a_contact_sheet_takes_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("图像", "标签"):
        (tmp_path / folder).mkdir()
        for stem in ("前视摄像头_" * 12, "b\udcb7"):
            Image.new("L", (64, 32)).save(tmp_path / folder / f"{stem}.png")
    text = "images: 图像/{name}.png\nlabels: 标签/{name}.png\nencoding: ids\nclasses: {路面: 0, 汽车: 1}\n"
    (tmp_path / "数据.yaml").write_text(text, "utf-8")
    assert check_data("数据.yaml", split=None, root=None, classes=None, sheet=None, as_json=False)
    assert Image.open("数据.png").height > 100


def test_terminals_are_measured_in_columns(capsys):
    print_bars(["路面", "car", "日本"], [0.5, 1, 0], [(0, 0, 0)] * 3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.index("█") for line in lines[:2]] == [6, 8], "two characters take four columns"
