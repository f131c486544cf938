"""The report as a reader's browser shows it."""

import shutil

import pytest

from clan.report import make_report
from tests.reporting.browser import CHROMIUM, DRIVER, browser

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")


@pytest.fixture(scope="module")
def page(evaluated_runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    make_report([evaluated_runs / "first", evaluated_runs / "second"], path)
    return path


@pytest.fixture(scope="module")
def session():
    with browser() as opened:
        yield opened


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["wide", "narrow"])
def shown(request, session, page):
    """The page on a wide light screen and on a narrow dark one; afterwards nothing has gone wrong or out."""
    session.requests(), session.complaints()
    width, scheme = request.param
    session.show(page, width=width, scheme=scheme)
    yield session
    assert session.complaints() == []
    assert {address for address in session.requests() if not address.startswith("data:")} == {page.as_uri()}


def test_nothing_is_wider_than_the_screen(shown):
    assert shown.run("return document.documentElement.scrollWidth <= innerWidth")


def test_every_picture_is_decoded_and_described(shown):
    pictures = shown.run("return [...document.images].map(i => [i.naturalWidth > 0, i.alt.length > 0])")
    assert len(pictures) == 2 * (2 + 2 * 2)  # two images: image, truth and, of each run, prediction and discrepancy
    assert all(decoded and described for decoded, described in pictures)
    assert shown.run("return [...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label').length > 9)")


def test_the_slider_moves_the_line_by_its_handle_and_by_the_picture(shown):
    cut = "return getComputedStyle(document.querySelector('.stage img.right')).clipPath"
    before = shown.run(cut)
    shown.point(".slider input", drag_to=80)
    by_handle = shown.run(cut)
    shown.point(".stage", drag_to=-60)
    by_picture = shown.run(cut)
    positions = [float(value.rsplit(" ", 1)[1].rstrip("%)")) for value in (by_picture, before, by_handle)]
    assert positions[0] < positions[1] == 50 < positions[2]


def test_either_side_shows_any_layer(shown):
    choose = "const s = document.getElementById('left'); s.value = 'discrepancy0'; s.dispatchEvent(new Event('change'))"
    shown.run(choose)
    assert shown.text(".stage .l") == "discrepancy, first"
    visible = "return [...document.querySelectorAll('.stage')[0].querySelectorAll('img')]"
    visible += ".filter(i => getComputedStyle(i).display != 'none').map(i => i.dataset.key)"
    assert shown.run(visible) == ["prediction0", "discrepancy0"]


def test_a_cell_of_the_matrix_is_read_out(shown):
    shown.point(".matrix tbody tr:nth-child(1) td:nth-child(2)")
    said = shown.text(".says")
    assert said.endswith("pixels)")
    assert "of road is predicted as road" in said


def test_a_curve_is_read_out_at_the_pointer(shown):
    shown.point(".panel svg")
    assert "iteration" in shown.text(".panel .readout")
    assert shown.run("return document.querySelectorAll('.panel')[0].querySelectorAll('.readout .dot').length") == 2
    shown.point("h1")
    assert shown.text(".panel .readout") == ""


def test_the_theme_is_the_system_s_until_the_button_is_pressed(shown, request):
    color = "return getComputedStyle(document.body).backgroundColor"
    before = shown.run(color)
    dark = "dark" in request.node.callspec.params["shown"]
    assert (sum(map(int, before[4:-1].split(","))) < 200) == dark
    shown.click("#theme")
    after = shown.run(color)
    assert (sum(map(int, after[4:-1].split(","))) < 200) != dark
    shown.click("#theme")
    assert shown.run(color) == before


def test_a_run_that_has_just_begun_is_shown_too(session, evaluated_runs, tmp_path):
    (tmp_path / "young").mkdir()
    shutil.copy(evaluated_runs / "first/config.yaml", tmp_path / "young")
    make_report([tmp_path / "young"], tmp_path / "young.html")
    session.complaints()
    session.show(tmp_path / "young.html", width=390, scheme="light")
    assert "No iteration is finished yet" in session.text("main")
    session.click("#theme")
    assert session.complaints() == []
