"""Reports of the demo and of an adaptation between real data sets, as a reader's browser shows them."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from clan.cli import demo
from clan.cli import main as cli
from clan.data.dataset import Dataset
from clan.data.domains import named_domain
from clan.reporting.page import make_report
from clan.run import presets as recipes
from tests.needs import needed
from tests.pages import ROOT
from tests.reporting.browser import CHROMIUM, DRIVER, browser

needed("browser", CHROMIUM and DRIVER)


class Report(NamedTuple):
    """A page, and how many runs and images of the gallery it shows."""

    path: Path
    runs: int
    images: int


@pytest.fixture(scope="module")
def demo_report(tmp_path_factory):
    """What `clan demo` ends with, on smaller worlds and with a network that sees less."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("SOURCE_IMAGES", 4), ("TARGET_IMAGES", 4), ("VALIDATION_IMAGES", 2)):
            patch.setattr(demo, name, count)
        patch.setattr(recipes, "DEMO_SIZE", (128, 64))
        patch.setattr(recipes, "DEMO_TRAINING_SIZE", (64, 32))
        cli.dispatch(["demo", str(folder), "--steps", "10"])
    return Report(folder / "report.html", runs=2, images=2)


@pytest.fixture(scope="module")
def idd_to_camvid_report(shared, tmp_path_factory):
    """A few iterations on a few real images, with the options of the benchmark."""
    folder = tmp_path_factory.mktemp("idd_to_camvid")
    run = folder / "clan-adversarial-0.01-judge-0.001-color-jitter-0.4-self-1.0-seed0"
    lists = {}
    for name, split in (("idd_lite", "train"), ("camvid", "train"), ("camvid", "val")):
        domain = named_domain(str(ROOT / f"benchmarks/domains/{name}.yaml"))
        names = Dataset(domain.description, domain.root, split=split).names
        lists[name, split] = folder / f"{name}-{split}.txt"
        lists[name, split].write_text("\n".join(names[:4]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        from adaptation_experiments import as_arguments, flags_of

        few = {
            "source.list-file": lists["idd_lite", "train"],
            "target.list-file": lists["camvid", "train"],
            **{"source.size": (96, 64), "target.size": (96, 64), "augmentation.crop-size": (96, 64)},
            **{"num-steps": 4, "warmup-steps": 0, "save-every": 2, "snapshot-dir": run},
        }
        cli.dispatch(["train", *as_arguments(flags_of("idd_to_camvid", "clan") | few)])
        val = ["--split", "val", "--data-list", str(lists["camvid", "val"])]
        written = ["--save", str(folder / "result"), "--workbooks", str(folder)]
        cli.dispatch(["evaluate", str(run), *val, *written])
        cli.dispatch(["report", str(run), "-o", str(folder / "report.html")])
    return Report(folder / "report.html", runs=1, images=4)


@pytest.fixture(scope="module", params=["demo", "idd_to_camvid"])
def report(request):
    return request.getfixturevalue(f"{request.param}_report")


@pytest.fixture(scope="module")
def session():
    with browser() as opened:
        yield opened


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["wide", "narrow"])
def shown(request, session, report):
    """The page on a wide light screen and on a narrow dark one; afterwards nothing has gone wrong or out."""
    session.requests(), session.complaints()
    width, scheme = request.param
    session.show(report.path, width=width, scheme=scheme)
    yield session
    assert session.complaints() == []
    assert {address for address in session.requests() if not address.startswith("data:")} == {report.path.as_uri()}


def test_nothing_is_wider_than_the_screen(shown):
    # Not `innerWidth`: a telephone zooms out until what is too wide fits.
    assert shown.run("const page = document.documentElement; return page.scrollWidth <= page.clientWidth")


def test_every_picture_is_decoded_and_described(shown, report):
    pictures = shown.run("return [...document.images].map(i => [i.naturalWidth > 0, i.alt.length > 0])")
    # Of every image: itself, its truth and, of each run, prediction and discrepancy.
    assert len(pictures) == report.images * (2 + 2 * report.runs)
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
    assert shown.text(".stage .l").startswith("discrepancy, ")
    visible = "return [...document.querySelectorAll('.stage')[0].querySelectorAll('img')]"
    visible += ".filter(i => getComputedStyle(i).display != 'none').map(i => i.dataset.key)"
    assert shown.run(visible) == ["prediction0", "discrepancy0"]


def test_a_cell_of_the_matrix_is_read_out(shown):
    place = "return document.querySelector('.matrix tbody').getBoundingClientRect().top"
    shown.point(".matrix tbody tr:nth-child(1) td:nth-child(2)")
    before = shown.run(place)
    said = shown.text(".says")
    assert said.endswith("pixels)")
    assert "of road is predicted as road" in said
    # However long what is read out is, the cells stay where the pointer is.
    shown.run("document.querySelector('.says').textContent = 'word '.repeat(200)")
    assert shown.run(place) == before


def test_a_curve_is_read_out_at_the_pointer(shown, report):
    shown.point(".panel svg")
    assert "iteration" in shown.text(".panel .readout")
    assert (
        shown.run("return document.querySelectorAll('.panel')[0].querySelectorAll('.readout .dot').length")
        == report.runs
    )
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


def test_the_demo_s_report_says_that_its_worlds_are_drawn(session, demo_report):
    session.show(demo_report.path, width=1280, scheme="light")
    assert "this program drew every picture" in session.text(".notice")
    assert "drawn-rendered → drawn-camera" in session.text("main")


def test_a_run_that_has_just_begun_is_shown_too(session, evaluated_runs, tmp_path):
    (tmp_path / "young").mkdir()
    shutil.copy(evaluated_runs / "first/config.yaml", tmp_path / "young")
    make_report([tmp_path / "young"], tmp_path / "young.html")
    session.complaints()
    session.show(tmp_path / "young.html", width=390, scheme="light")
    assert "No iteration is finished yet" in session.text("main")
    session.click("#theme")
    assert session.complaints() == []
