"""Names in the figures of clan inspect."""

import numpy as np
import pytest

from clan.core import fonts as lettering
from clan.datasets.labels import LabelSpace
from clan.reporting.figures import draw_centres, draw_table
from tests.needs import module

module("matplotlib", "extras")

NAMES = ("路面 road", "$car$ {", "\udcb7\ud800", "مرحبا", "a\nb\x07", "😀")


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("fonts", [True, False])
def test_names_in_any_script_are_drawn_without_a_missing_glyph(fonts, tmp_path, monkeypatch):
    if not fonts:
        monkeypatch.setattr(lettering, "font_with", lambda character: None)
    lettering._writable_character.cache_clear()
    space = LabelSpace(NAMES, ((9, 9, 9),) * len(NAMES))
    draw_table(tmp_path / "table.png", "不一致\udcb7", np.ones((len(NAMES), 2)), space, [1, 2])
    draw_centres(tmp_path / "centres.png", "centres", {"运行": np.ones(len(NAMES))}, space)
    lettering._writable_character.cache_clear()
    assert (tmp_path / "table.png").stat().st_size > 5000
