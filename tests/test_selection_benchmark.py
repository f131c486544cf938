"""The tables on choosing without labels: what they say of records whose answer is known."""

import sys

import pytest

from tests.pages import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import selection

    yield selection
    for name in ("selection", "adaptation_experiments", "adaptation_report", "common"):
        sys.modules.pop(name, None)


def record(name, truth, ensemble, entropy):
    return {
        "run": name,
        "steps": 80,
        "date": "2026-01-01",
        "machine": {"cpu": "a processor"},
        "iterations": [10 * (k + 1) for k in range(len(truth))],
        "truth": truth,
        "values": {"ensemble": ensemble, "consistency": ensemble, "entropy": entropy},
        "between": {"ensemble": max(truth) / 100, "entropy": 0.5},
    }


def test_a_criterion_that_follows_the_truth_has_no_regret_and_one_against_it_all(tables):
    truths = [[20.0, 24.0, 22.0], [30.0, 31.0, 36.0], [10.0, 11.0, 11.5]]
    records = [record(f"run{k}", truth, truth, truth) for k, truth in enumerate(truths)]
    lines = tables.table(records).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    rows = {name: others for name, *others in cells}
    assert rows["`ensemble`"] == ["1.00 (1.00)", "3 of 3", "0.0 (0.0)", "1.00", "0.0"]
    # Lower entropy is better, so it chooses the worst.
    assert rows["`entropy`"] == ["-1.00 (-1.00)", "1 of 3", "3.8 (6.0)", "-1.00", "26.0"]
    assert rows["the last snapshot"][1:3] == ["2 of 3", "0.7 (2.0)"]
    assert "24.0" in rows["run0"][1]
    assert "**24.0**" in rows["run0"][1]
    assert "3 runs" in tables.circumstances(records)


def test_records_and_marks_of_the_document_fit(tables):
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    for pair in (tables.CHOSEN_ON, tables.JUDGED_ON):
        assert text.count(f"<!-- selection {pair} -->\n") == 1
        found = sorted((tables.RESULTS / pair).glob("*.json"))
        section = text.partition(f"<!-- selection {pair} -->")[2].partition(f"<!-- end of selection {pair} -->")[0]
        assert f"\n{len(found)} runs" in section or not found
