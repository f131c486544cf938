"""`clan inspect` from end to end: what it writes, what it leaves alone, what it says."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.core.errors import ClanError
from clan.reporting.inspection.findings import read_findings
from clan.reporting.inspection.run import inspect_run
from clan.reporting.inspection.subject import Options, numbered
from clan.reporting.page import make_report
from clan.run.folder import Snapshot
from tests.conftest import tiny_config
from tests.needs import module

pytestmark = pytest.mark.plain

module("matplotlib", "extras")

FIGURES = {"centres", "discrepancy", "discrepancy_classes", "discrepancy_maps", "features", "heads"}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def inspected(evaluated_runs, tmp_path_factory):
    """A copy of the runs; what was found in the first one lies in its folder."""
    folder = tmp_path_factory.mktemp("inspected") / "runs"
    shutil.copytree(evaluated_runs, folder)
    before = contents(folder)
    cli.dispatch(["inspect", str(folder / "first"), "--images", "2", "--points", "5"])
    assert {path: content for path, content in contents(folder).items() if "inspect" not in path.parts} == before
    return folder


def test_figures_and_numbers_are_written(inspected):
    folder = inspected / "first/inspect"
    assert {path.stem for path in folder.glob("*.png")} == FIGURES | {"discriminator"}
    for path in folder.glob("*.png"):
        assert len(np.unique(np.asarray(Image.open(path)))) > 10
    found = json.loads((folder / "inspect.json").read_text())
    assert [one["iteration"] for one in found["snapshots"]] == [2, 4]
    assert (found["labels"], found["split"], len(found["images"])) == ("ground truth", "val", 2)
    for one in found["snapshots"]:
        assert len(one["discrepancy_of_class"]) == len(found["classes"]) == 19
        assert one["discrepancy"] == pytest.approx(np.mean(one["discrepancy_of_image"]))
        assert set(one["discriminators"]) == {"discriminator"}
        assert all(0 <= share <= 1 for share in one["discriminators"]["discriminator"].values())
    for one in found["features"]:
        assert len(one["tsne"]) == len(one["pca"]) == len(one["point_class"]) == len(one["point_is_source"])
        assert np.bincount(one["point_class"]).max() <= 2 * 5


def test_the_cosine_while_training_is_that_of_the_snapshots(inspected):
    """What the loss of iteration 2 says is of the heads after 2 iterations."""
    found = read_findings(inspected / "first/inspect")
    assert found.training.iteration == [0, 1, 2, 3]
    assert found.training.head_cosine[2] == pytest.approx(found.snapshots[0].head_cosine, abs=1e-5)


def test_the_same_seed_finds_the_same(inspected, tmp_path):
    options = Options(images=2, points=5)
    again = inspect_run(inspected / "first", tmp_path, options=options)
    first = inspected / "first/inspect"
    left_out = {"date"}
    assert again.model_dump(exclude=left_out) == read_findings(first).model_dump(exclude=left_out)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == {
        path.name: path.read_bytes() for path in first.glob("*.png")
    }


def test_the_report_shows_what_was_found(inspected, tmp_path):
    runs = [inspected / "second", inspected / "first"]
    page = make_report(runs, tmp_path / "report.html", images=0)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = read_findings(inspected / "first/inspect")
    assert page.inspections[0] is None
    for number in filter(None, found.features[-1].centre_distance_relative):
        assert f"<td>{number:.3f}</td>" in text
    assert {series.run for panel in page.inspected for series in panel.series} == {1}
    assert len(page.inspected) == 5
    assert text.count("data:image/webp") == 2
    (inspected / "first/inspect/inspect.json").rename(tmp_path / "inspect.json")
    assert 'id="inside"' not in make_text(runs, tmp_path)
    (tmp_path / "inspect.json").rename(inspected / "first/inspect/inspect.json")


def make_text(runs, folder):
    make_report(runs, folder / "bare.html", images=0)
    return (folder / "bare.html").read_text(encoding="utf-8")


def test_a_method_without_a_discriminator_beside_one_with(inspected, tmp_path, capsys):
    command = ["inspect", inspected / "second", "-o", tmp_path, "--against", inspected / "first", "--images", "1"]
    cli.dispatch(list(map(str, [*command, "--snapshots", "1"])))
    assert "The method source-only has no discriminator" in capsys.readouterr().out
    assert {path.stem for path in tmp_path.glob("*.png")} == FIGURES
    found = read_findings(tmp_path)
    assert [one.iteration for one in found.snapshots] == [4]
    assert [one.network for one in found.features] == ["first, iteration 4", "second, iteration 4"]
    assert (found.training, found.snapshots[0].discriminators) == (None, {})


def test_without_labels_classes_are_by_prediction_and_without_scikit_learn_there_is_pca(
    inspected, worlds, tmp_path, monkeypatch
):
    shutil.copytree(worlds / "Cityscapes/leftImg8bit", tmp_path / "bare/leftImg8bit")
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    options = Options(images=1, snapshots=1, data_dir_target=tmp_path / "bare")
    found = inspect_run(inspected / "first", tmp_path / "out", options=options)
    assert found.labels == found.features[0].target_labels == "prediction"
    assert sum(found.snapshots[0].pixels_of_class) == 64 * 32
    assert found.features[0].tsne is None
    assert [remark.split()[0] for remark in found.remarks] == ["Target", "There"]


def test_statistics_of_each_domain_and_two_discriminators(worlds, tmp_path):
    from clan.training.run import train

    fields = {"method": "adaptsegnet-multi", "network__batch_norm": "per-domain", "num_steps": 1, "warmup_steps": 0}
    train(tiny_config(worlds, tmp_path / "run", save_every=1, **fields))
    (tmp_path / "run/SYS_1_D_aux.pdparams").rename(tmp_path / "aside")
    found = inspect_run(tmp_path / "run", options=Options(images=1))
    assert set(found.snapshots[0].discriminators) == {"discriminator"}
    (tmp_path / "aside").rename(tmp_path / "run/SYS_1_D_aux.pdparams")
    found = inspect_run(tmp_path / "run", options=Options(images=1))
    assert set(found.snapshots[0].discriminators) == {"discriminator", "discriminator_aux"}


def test_snapshots_are_chosen_evenly_to_the_last(tmp_path):
    saved = [Snapshot(tmp_path / f"{number}", number) for number in range(10, 210, 10)]
    saved.append(Snapshot(tmp_path / "best", None))
    assert [one.iteration for one in numbered(tmp_path, saved, 3)] == [10, 110, 200]
    assert [one.iteration for one in numbered(tmp_path, saved, 1)] == [200]
    assert len(numbered(tmp_path, saved, 99)) == 20


def test_what_cannot_be_inspected_is_said(inspected, tmp_path, error_of):
    def refusal(*arguments):
        return error_of(cli.dispatch, "inspect", *arguments)

    assert "holds no config.yaml: name the folder of a run" in refusal(tmp_path)
    shutil.copy(inspected / "first/config.yaml", tmp_path)
    assert "holds no snapshot" in refusal(tmp_path)
    assert "does not exist (cityscapes has the splits train, val)" in refusal(inspected / "first", "--split", "night")
    assert "--images 0 leaves nothing to show" in refusal(inspected / "first", "--images", "0")
    (tmp_path / "file").touch()
    assert "choose another --output" in refusal(inspected / "first", "-o", tmp_path / "file/out")
    config = (inspected / "first/config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace("classes: cityscapes", "classes: {classes: {road: []}}"))
    monkey = tmp_path / "config.yaml"
    monkey.write_text(monkey.read_text().replace("num_classes: 19", "num_classes: 1"))
    shutil.copy(inspected / "first/SYS_4.pdparams", tmp_path)
    assert "has other classes than" in refusal(inspected / "first", "--against", tmp_path, "-o", tmp_path / "out")


def test_damaged_findings_are_said(tmp_path):
    (tmp_path / "inspect.json").write_text('{"version": 1}')
    with pytest.raises(ClanError, match=r"inspect\.json is damaged"):
        read_findings(tmp_path)
    assert read_findings(tmp_path / "none") is None
