"""The documentation's site as a browser without a network shows it."""

import re
import shutil
import subprocess
import sys
import time

import pytest

from clan.run.config import Config, flat_options
from clan.run.presets import official
from tests.needs import NEEDS
from tests.pages import DOCS, ROOT
from tests.reporting.browser import CHROMIUM, DRIVER, browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built of a copy."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for part in ("docs", "tools", "src"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, check=True, capture_output=True)
    return folder / "site"


def read(site, page):
    return (site / page).read_text(encoding="utf-8")


def test_every_page_is_there(site):
    for page in DOCS:
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()


def test_the_reference_names_every_option_and_command(site):
    options = [name for name, _ in flat_options(official().model_dump(exclude={"source", "target", "classes"}))]
    shown = read(site, "reference/configuration.html")
    assert [name for name in options if f"<code>{name}</code>" not in shown] == []
    assert set(Config.model_fields) <= {name.split(".")[0] for name in options} | {"source", "target", "classes"}
    commands = read(site, "reference/commands.html")
    assert all(f">clan {name}<" in commands for name in ("predict", "data check", "report"))
    assert "--no-random-mirror" in commands


def test_formulas_are_mathml_and_none_is_left_as_tex(site):
    page = read(site, "method.html")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 8
    assert "\\frac" not in page and "\\mathcal" not in page


@pytest.mark.parametrize(
    ("page", "language", "up"), [("method", "en", "Back to top"), ("zh/method", "zh", "回到页面顶部")]
)
def test_a_page_s_captions_are_in_its_language(site, page, language, up):
    shown = read(site, f"{page}.html")
    assert f'<html lang="{language}"' in shown
    assert up in shown


def test_a_line_s_end_between_chinese_characters_is_no_space(site):
    for page in sorted((site / "zh").glob("*.html")):
        text = re.sub(r"<pre.*?</pre>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert re.findall(r"[一-鿿，。；：]\n[一-鿿（]", text) == [], page.name


in_a_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=NEEDS["browser"].reason)

FOUND = """
const box = [...document.querySelectorAll("*")].find((one) => one.shadowRoot?.querySelector("input"));
return box ? [box.shadowRoot.querySelector("input").value, box.shadowRoot.textContent] : ["", ""];
"""


@in_a_browser
@pytest.mark.parametrize(("words", "title"), [("flattened", "weight_divergence"), ("判别器", "如何选择")])
def test_the_search_of_a_page_that_is_a_file_finds_words_of_either_language(site, words, title):
    with browser() as session:
        session.show(site / "index.html", width=1280, scheme="light")
        session.click(".md-search__button")
        deadline = time.monotonic() + 60
        typed, shown = "", ""
        while title not in shown and time.monotonic() < deadline:
            if not typed:
                session.devtools("Input.insertText", text=words)
            time.sleep(0.5)
            typed, shown = session.run(FOUND)
        assert title in shown
        assert session.complaints() == []


@in_a_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_without_network_shows_all_of_it(site, width, scheme):
    with browser() as session:
        session.devtools("Network.enable")
        off = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        session.devtools("Network.emulateNetworkConditions", **off)
        for page in ("index", "method", "zh/method", "reference/commands"):
            session.show(site / f"{page}.html", width=width, scheme=scheme)
            assert session.run("return document.documentElement.scrollWidth <= innerWidth"), page
            assert session.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)"), page
            heights = "return [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)"
            assert all(height > 5 for height in session.run(heights)), page
            color = session.run("return getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, color[4:-1].split(","))) < 200) == (scheme == "dark")
        assert session.complaints() == []
        outside = [address for address in session.requests() if not address.startswith(("file:", "data:", "blob:"))]
        assert outside == []
