"""The examples of docs/python.md, as a reader runs them."""

from pathlib import Path

import pytest
from PIL import Image

from tests.pages import ROOT, blocks

PAGE, TRANSLATION = ROOT / "docs/python.md", ROOT / "docs/zh/python.md"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the page's blocks leave, one after the other, and the folder they ran in."""
    folder, names = tmp_path_factory.mktemp("reader"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, block in enumerate(blocks(PAGE, "python")):
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    return folder, names


def test_a_script_trains_with_a_callback_evaluates_and_reports(ran):
    folder, names = ran
    assert len(names["losses"].values) == names["config"].num_steps == 6
    assert names["evaluated"].iteration == 6 and 0 <= names["evaluated"].scores.iou[0] <= 1
    assert "All 2 evaluated snapshots" in (folder / "runs/report.html").read_text(encoding="utf-8")


def test_a_script_loads_the_network_and_segments_an_image(ran):
    folder, names = ran
    assert Path(names["snapshot"]).name == "SYS_6.pdparams"
    assert names["prediction"].labels.shape == names["road"].shape == (48, 96)
    with Image.open(folder / "overlay.png") as overlay:
        assert overlay.size == (96, 48)


def test_both_languages_show_the_same_examples():
    assert len(blocks(PAGE, "python")) == 2
    assert blocks(PAGE, "python") == blocks(TRANSLATION, "python")
