"""The notebook, as a reader runs it, and without outputs in the repository."""

import nbformat
from nbclient import NotebookClient

from tests.pages import ROOT

NOTEBOOK = ROOT / "examples/own_domains.ipynb"


def test_the_notebook_goes_from_two_folders_to_a_report(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "All 2 evaluated snapshots" in (tmp_path / "runs/report.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "runs/result").glob("*/scores.json"))) == 2
    [picture] = [output for output in notebook.cells[-1].outputs if output.output_type == "execute_result"]
    assert "image/png" in picture.data


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code if cell.execution_count or cell.outputs] == []
