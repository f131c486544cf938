"""`clan` from end to end on drawn data and a small network: what is written, and that it is the same again."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import yaml
from PIL import Image

from clan.cli import main as cli
from clan.datasets.labels import CITYSCAPES
from clan.evaluation.label_maps import load_segmenter, options_for
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weight_files import read_arrays, write_arrays
from clan.models.weights import to_file_names


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_seconds(folder):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records(folder)]


def check_label_maps(folder, truth):
    """Two PNGs per image, of trainIds, at the size of the ground truth."""
    stems = [path.name.replace("gtFine_labelIds", "leftImg8bit")[:-4] for path in truth.rglob("*.png")]
    names = {f"{stem}{suffix}.png" for stem in stems for suffix in ("", "_color")}
    assert {path.name for path in folder.iterdir()} - {"scores.json"} == names
    for stem in stems:
        with Image.open(folder / f"{stem}.png") as ids, Image.open(folder / f"{stem}_color.png") as color:
            assert (ids.mode, ids.size, color.mode, color.size) == ("L", (128, 64), "P", (128, 64))
            train_ids = np.asarray(ids)
            assert train_ids.max() < 19
            assert np.array_equal(train_ids, np.asarray(color))
            assert np.array_equal(CITYSCAPES.colorize(train_ids), np.asarray(color.convert("RGB")))


def check_scores(lines):
    """One line per class and one per mean."""
    names = [line.split(":\t")[0] for line in lines]
    assert names == [f"===>{name}" for name in CITYSCAPES.names] + [f"===> mIoU-{n}" for n in (19, 16, 13)]
    assert all(value == "–" or 0 <= float(value) <= 100 for value in (line.split(":\t")[1] for line in lines))


def check_tables(folder, scores):
    """A row per snapshot, the same in the workbook and the CSV, with the best marked."""
    assert {path.name for path in folder.iterdir()} == {"SYS2Cityscapes.csv", "SYS2Cityscapes.xlsx"}
    with (folder / "SYS2Cityscapes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["snapshot"], row["iteration"]) for row in rows] == [
        ("SYS2Cityscapes_1", "1"),
        ("SYS2Cityscapes_2", "2"),
    ]
    (best,) = [row for row in rows if row["best"]]
    assert float(best["mIoU-13"]) == max(float(row["mIoU-13"]) for row in rows)
    alone = dict(line.removeprefix("===>").strip().split(":\t") for line in scores)
    assert {name: rows[1][name] for name in alone} == alone
    header, *cells = openpyxl.load_workbook(folder / "SYS2Cityscapes.xlsx").active.iter_rows(values_only=True)
    in_book = [dict(zip(header, row, strict=True)) for row in cells[:2]]
    for row, book in zip(rows, in_book, strict=True):
        assert bool(row["best"]) == bool(book["best"])
        assert float(row["mIoU-19"]) == pytest.approx(book["mIoU-19"], abs=0.005)


@pytest.fixture
def clan(worlds, tmp_path, monkeypatch, capsys):
    """Runs `clan …` in a folder with data, within this process; returns what it printed."""
    (tmp_path / "data").symlink_to(worlds)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        cli.dispatch([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return call


SMALL = (
    *("--network.backbone", "resnet-tiny", "--network.discriminator-width", 8, "--save-images", 0),
    *("--source.size", 64, 32, "--target.size", 64, 32, "--num-steps", 2),
)


def test_a_written_config_runs_again_to_the_same_losses(clan, tmp_path):
    clan("train", "--preset", "paper", *SMALL, "--snapshot-dir", "first", "--seed", 7)
    clan("train", "--config", "first/config.yaml", "--snapshot-dir", "second")
    assert len(records(tmp_path / "first")) == 2
    assert without_seconds(tmp_path / "first") == without_seconds(tmp_path / "second")
    first, second = (yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("first", "second"))
    assert first | {"snapshot_dir": "second"} == second


def test_programs_get_an_object_a_line_and_others_may_have_quiet(clan):
    last = "snapshots/SYS2Cityscapes/SYS_2.pdparams"
    printed = clan("train", *SMALL, "--validate-every", 1, "--json")
    events = [json.loads(line) for line in printed.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "note"]
    assert kinds == ["start", "validation", "step", "validation", "snapshot", "end"]
    assert events[-1] == {"event": "end", "path": last}
    assert next(event["best"] for event in events if event["event"] == "validation")
    assert clan("train", *SMALL, "--quiet") == f"saved {last}\n"


def test_the_clan_script_runs_as_a_process(clan, tmp_path):
    clan("train", *SMALL, "--snapshot-dir", "inside")
    program = [sys.executable, "-c", "from clan.cli.main import main; main()"]
    arguments = ["train", "--config", "inside/config.yaml", "--snapshot-dir", "process"]
    result = subprocess.run([*program, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    for here, there in zip(without_seconds(tmp_path / "inside"), without_seconds(tmp_path / "process"), strict=True):
        assert here == pytest.approx(there, rel=1e-4)  # threads may differ in number, and so in rounding


def test_evaluating_a_snapshot_or_a_folder_of_them(clan, tmp_path):
    clan("train", *SMALL, "--save-every", 1)
    one = clan("evaluate", "snapshots/SYS2Cityscapes/SYS_1.pdparams", "--input-size", 64, 32)
    check_scores(one.splitlines()[-22:])
    clan("evaluate", "snapshots/SYS2Cityscapes", "--input-size", 64, 32)
    scores = clan("iou", "data/Cityscapes/gtFine/val", "result/SYS2Cityscapes_2").splitlines()
    check_label_maps(tmp_path / "result/SYS2Cityscapes_2", tmp_path / "data/Cityscapes/gtFine/val")
    check_tables(tmp_path / "mIoU_results", scores)


def test_label_ids_score_as_train_ids_do(clan):
    clan("train", *SMALL)
    snapshot = ("evaluate", "snapshots/SYS2Cityscapes/SYS_2.pdparams", "--input-size", 64, 32)
    train_ids = clan(*snapshot, "--save", "train").splitlines()[-22:]
    assert clan(*snapshot, "--save", "label", "--label-ids").splitlines()[-22:] == train_ids


def test_a_resumed_command_continues(clan, tmp_path):
    clan("train", *SMALL, "--snapshot-dir", "whole")
    clan("train", *SMALL, "--snapshot-dir", "halves", "--num-steps-stop", 1)
    printed = clan("train", *SMALL, "--snapshot-dir", "halves", "--resume")
    assert "resuming at iteration 1" in printed
    assert without_seconds(tmp_path / "whole") == without_seconds(tmp_path / "halves")


def test_the_seed_s_projection_bias_is_trained_saved_and_used(clan, tmp_path):
    """The seed's published weights have it under `downsample.0.bias`, beside Paddle's other names."""
    network = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=19, projection_bias=True))
    arrays = {name: tensor.numpy() for name, tensor in to_file_names(network.state_dict()).items()}
    biases = [name for name in arrays if name.endswith(".downsample.0.bias")]
    assert len(biases) == 4
    arrays |= {name: np.full_like(arrays[name], 0.5) for name in biases}
    write_arrays(arrays, tmp_path / "seed.pdparams")
    printed = clan(
        *("train", "--preset", "seed", *SMALL, "--warmup-steps", 0, "--num-steps-stop", 1),
        *("--network.restore-from", "seed.pdparams", "--optimizer.weight-decay", 0.1),
    )
    assert f"{len(arrays)} of {len(arrays)} arrays matched" in printed
    snapshot = Path("snapshots/SYS2Cityscapes/SYS_1.pdparams")
    saved = read_arrays(snapshot)
    # A bias before batch norm has no gradient but rounding; the decay alone moves it.
    for name in biases:
        np.testing.assert_allclose(saved[name], 0.5 * (1 - 2.5e-3 * 0.1), rtol=1e-5)
    options = options_for(snapshot, num_classes=None, upsampling=None)
    assert (options.network.backbone, options.upsampling) == ("resnet-tiny", "bicubic")
    loaded = load_segmenter(snapshot, NetworkConfig(backbone="resnet-tiny", num_classes=19))
    state = to_file_names(loaded.state_dict())
    assert all(np.array_equal(state[name].numpy(), saved[name]) for name in biases)
    check_scores(clan("evaluate", snapshot, "--input-size", 64, 32).splitlines()[-22:])


def test_a_gta5_run_reads_its_labels_and_names_its_snapshots(clan, worlds, tmp_path):
    """GTA5's labels are palette PNGs of Cityscapes ids, which those of the drawn target are too."""
    for folder, kind in (("images", "leftImg8bit"), ("labels", "gtFine")):
        (tmp_path / "GTA5" / folder).mkdir(parents=True)
        for number, path in enumerate(sorted((worlds / "Cityscapes" / kind / "val").rglob("*.png"))):
            image = Image.open(path)
            if folder == "labels":
                image.putpalette(bytes(range(256)) * 3)
            image.save(tmp_path / "GTA5" / folder / f"{number:05d}.png")
    clan("train", "--source", "gta5", "--source.root", "GTA5", *SMALL)
    folder = tmp_path / "snapshots/GTA2Cityscapes"
    assert {path.name for path in folder.glob("*.pdparams")} == {"GTA5_2.pdparams", "GTA5_2_D.pdparams"}
