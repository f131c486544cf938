"""The commands that users of the PaddlePaddle 2.1 port know, and what each flag of theirs changes."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.cli.port.train import FLAG_FIELDS, configuration, parser
from clan.models.weight_files import read_arrays
from clan.run.config import load, to_yaml
from clan.run.presets import PRESETS
from tests.pages import ROOT


def run(folder, script, *arguments):
    """Runs a script of the repository's root in a folder; returns what it printed."""
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def folder(worlds, tmp_path_factory):
    """Where the five commands ran one after the other, on drawn data in ./data."""
    folder = tmp_path_factory.mktemp("five")
    (folder / "data").symlink_to(worlds)
    small = ("--input-size-source", "64,32", "--input-size-target", "64,32", "--num-steps", 2, "--save-pred-every", 1)
    run(folder, "CLAN_train.py", "--snapshot-dir", "./snapshots/SYS2Cityscapes", *small)
    weights, result = "./snapshots/SYS2Cityscapes/SYS_2.pdparams", "./result/SYS2Cityscapes_2"
    run(folder, "CLAN_evaluate.py", "--restore-from", weights, "--save", result, "--input-size", "64,32")
    (folder / "iou.txt").write_text(run(folder, "CLAN_iou.py", "./data/Cityscapes/gtFine/val", result))
    run(folder, "CLAN_evaluate_bulk.py", "--input-size", "64,32")
    run(folder, "CLAN_iou_bulk.py")
    return folder


def test_training_writes_snapshots_losses_and_its_configuration(folder):
    run_folder = folder / "snapshots/SYS2Cityscapes"
    names = {path.name for path in run_folder.iterdir()}
    assert {f"SYS_{i}{part}.pdparams" for i in (1, 2) for part in ("", "_D")} <= names
    rows = [line.split() for line in (run_folder / "loss.txt").read_text().splitlines()]
    assert all(len(value.partition(".")[2]) == 4 for row in rows for value in row)
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == [0, 1]
    losses = ["loss_seg", "loss_adv", "loss_weight", "loss_D_s", "loss_D_t"]
    assert list(records[0]) == ["iteration", *losses, "learning_rate", "learning_rate_D", "seconds"]
    assert rows == [[f"{record[name]:.4f}" for name in losses] for record in records]
    assert load(run_folder / "config.yaml").num_steps == 2
    assert len(list((run_folder / "images").glob("SYS_2_*.png"))) == 2


def test_evaluation_writes_ids_and_colours_at_the_size_of_the_truth(folder):
    maps = sorted(path.name for path in (folder / "result/SYS2Cityscapes_2").glob("*.png"))
    assert len(maps) == 4
    for name in maps:
        with Image.open(folder / "result/SYS2Cityscapes_2" / name) as image:
            assert image.size == (128, 64)
            assert image.mode == ("P" if name.endswith("_color.png") else "L")
            assert np.asarray(image).max() < 19


def test_scores_name_every_class_and_mean(folder):
    lines = (folder / "iou.txt").read_text().splitlines()
    assert len(lines) == 19 + 3
    assert lines[0].startswith("===>road:\t")
    assert [line.split(":")[0] for line in lines[-3:]] == ["===> mIoU-19", "===> mIoU-16", "===> mIoU-13"]


def test_the_bulk_pair_scores_every_snapshot_and_marks_the_best(folder):
    with (folder / "mIoU_results/SYS2Cityscapes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2"]
    best = max(rows, key=lambda row: float(row["mIoU-13"]))
    assert [bool(row["best"]) for row in rows] == [row is best for row in rows]
    sheet = openpyxl.load_workbook(folder / "mIoU_results/SYS2Cityscapes.xlsx").worksheets[0]
    assert [cell.value for cell in sheet[1]][:6] == ["snapshot", "iteration", "best", "mIoU-19", "mIoU-16", "mIoU-13"]


def test_a_run_can_be_run_again_from_its_configuration(tiny, tmp_path):
    config = tiny(snapshot_dir=tmp_path / "first")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    cli.dispatch(["train", "--config", str(tmp_path / "config.yaml")])
    again = ["train", "--config", str(tmp_path / "first/config.yaml"), "--snapshot-dir", str(tmp_path / "again")]
    cli.dispatch(again)
    assert (tmp_path / "first/loss.txt").read_text() == (tmp_path / "again/loss.txt").read_text()


def test_the_seed_preset_trains_saves_loads_and_evaluates_projection_biases(worlds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(worlds)
    words = "--preset seed --network.backbone resnet-tiny --source.size 64 32 --target.size 64 32 --num-steps 2"
    cli.dispatch(["train", *words.split()])
    weights = tmp_path / "snapshots/SYS2Cityscapes/SYS_2.pdparams"
    biases = [array for name, array in read_arrays(weights).items() if name.endswith("downsample.0.bias")]
    assert len(biases) == 4
    assert all(np.abs(array).max() > 0 for array in biases), "they are trained"
    again = [*words.split(), "--network.restore-from", str(weights), "--snapshot-dir", "again"]
    cli.dispatch(["train", *again])
    assert "0 arrays" not in capsys.readouterr().out
    cli.dispatch(["evaluate", str(weights), "--input-size", "64", "32"])
    assert "mIoU-13" in capsys.readouterr().out
    cli.dispatch(["evaluate", "snapshots/SYS2Cityscapes", "--input-size", "64", "32"])
    assert (tmp_path / "mIoU_results/SYS2Cityscapes.xlsx").is_file()


VALUES = {
    "--model": None,  # there is one
    "--target": None,
    "--num-classes": None,  # that of the classes is the only one
    "--not-restore-last": "",
    "--is-training": None,  # the default
    "--no-is-training": "",
    "--input-size-source": "40,20",
    "--input-size-target": "40,20",
    "--device": "cpu",
    "--precision": "bf16",
    "--sync-batch-norm": "",
    "--power": "0.5",
    "--momentum": "0.5",
    "--num-steps": "90000",
    "--on-nonfinite": "skip",
    "--shuffle": "no",
    "--random-scale": "no",
    "--random-mirror": "no",
}
"""What to give a flag, "" nothing; otherwise a number that is no default."""


@pytest.mark.parametrize("flag", [flag for flag in FLAG_FIELDS if VALUES.get(flag, "7") is not None])
def test_every_flag_changes_its_field_and_no_other(flag):
    value = VALUES.get(flag, "7")
    words = {"no": [f"--no-{flag.removeprefix('--')}"], "": [flag]}.get(value, [flag, value])
    before, after = (configuration(parser().parse_args(arguments)).model_dump() for arguments in ([], words))
    *sections, field = FLAG_FIELDS[flag].split(".")
    for section in sections:
        assert {key for key in before if before[key] != after[key]} == {section}
        before, after = before[section], after[section]
    assert {key for key in before if before[key] != after[key]} == {field}


def test_not_restore_last_and_the_switch_of_the_source():
    def configured(*words):
        return configuration(parser().parse_args(words))

    assert not configured("--not-restore-last").network.restore_heads
    gta5 = configured("--source", "GTA5")
    assert gta5.source.root == Path("data/GTA5")
    assert gta5.source.size == (1280, 720)
    assert gta5.method.lambda_local == 40.0
    assert gta5.snapshot_dir == Path("snapshots/GTA2Cityscapes")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_made_small(preset, tmp_path, monkeypatch):
    """The port's weights are those of a ResNet."""
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("model/pretrained.pdparams").touch()
    words = ["--num-steps", "100", "--input-size-source", "320,190", "--input-size-target", "256,128"]
    config = configuration(parser().parse_args(["--preset", preset, *words]))
    assert config.warmup <= 5
    assert config.augmentation.crop_size in (None, (256, 128))
    assert (config.network.restore_from is None) == (not config.network.backbone.startswith("resnet"))


def test_presets_differ_where_the_artefacts_do():
    official, paper, port = (PRESETS[name]("synthia") for name in ("official", "paper", "port"))
    assert (official.loss.gamma, paper.loss.gamma, port.loss.gamma) == (2.0, 0.0, 0.0)
    assert (official.repeated_updates, paper.repeated_updates) == (True, False)
    assert (paper.method.weight_multiplier, paper.method.damping, paper.method.lambda_local) == (1.0, False, 40.0)
    assert port.augmentation.scales == ((1.5, 1.0),)
    assert (port.source.size, port.network.evaluation_upsampling) == ((1024, 512), "bicubic")
