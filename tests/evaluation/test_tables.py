import io
import json
import sys

import numpy as np
import pytest

from clan.core import output as console
from clan.datasets.labels import CITYSCAPES
from clan.evaluation.iou import score
from clan.evaluation.scoring import score_folders
from clan.evaluation.tables import format_scores


def test_scores_are_printed_like_the_official_script_does():
    confusion = np.diag(np.arange(19))
    confusion[1, 2] = 2
    lines = format_scores(score(confusion, CITYSCAPES)).splitlines()
    assert lines[:4] == ["===>road:\t–", "===>sidewalk:\t33.33", "===>building:\t50.00", "===>wall:\t100.00"]
    assert lines[19:] == ["===> mIoU-19:\t93.52", "===> mIoU-16:\t92.22", "===> mIoU-13:\t90.28"]


def test_real_scores_are_those_that_the_official_script_printed(shared):
    data = shared / "data/iou"
    official = json.loads((data / "official_iou.json").read_text())["BASE"]["stdout_tail"]
    ours = format_scores(score_folders(data / "gtFine/val", data / "result/BASE")).splitlines()
    theirs = [line.replace("motocycle", "motorcycle") for line in official if line.startswith("===>")]
    assert ours[:19] == theirs[:19]
    assert float(ours[19].split("\t")[1]) == float(theirs[19].split(": ")[1])


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console, "monotonic", clock)
    return clock


class TestLines:
    """Progress where stderr is no terminal."""

    def test_short_jobs_are_silent(self, clock, capsys):
        with console.progress("evaluating", 3) as advance:
            for _ in range(3):
                clock.now += 1
                advance()
        assert capsys.readouterr() == ("", "")

    def test_long_jobs_get_a_line_now_and_then_and_one_at_the_end(self, clock, capsys):
        with console.progress("evaluating", 100) as advance:
            for _ in range(100):
                clock.now += 1
                advance()
        assert capsys.readouterr().err.splitlines() == [
            "evaluating 5/100, 0:01:35 left",
            "evaluating 35/100, 0:01:05 left",
            "evaluating 65/100, 0:00:35 left",
            "evaluating 95/100, 0:00:05 left",
            "evaluating 100/100, done in 0:01:40",
        ]

    def test_the_total_may_become_known_late(self, clock, capsys):
        with console.progress("scoring") as advance:
            clock.now += 10
            advance()
            clock.now += 30
            advance(total=4)
        assert capsys.readouterr().err.splitlines()[:2] == ["scoring 1", "scoring 2/4, 0:00:40 left"]

    def test_a_job_that_fails_is_not_reported_as_done(self, clock, capsys):
        with pytest.raises(RuntimeError), console.progress("training", 9):
            clock.now += 10
            raise RuntimeError
        assert capsys.readouterr().err == ""


def test_days_are_told_apart_from_hours():
    assert [console.clock(seconds) for seconds in (-1, 59.6, 3_661, 200_000)] == [
        "0:00:00",
        "0:01:00",
        "1:01:01",
        "2d 7:33:20",
    ]


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stderr", Terminal())
    with console.progress("training") as advance:
        advance(2, total=4)
        advance(2)
    shown = sys.stderr.getvalue()
    assert "training" in shown
    assert "4/4" in shown
