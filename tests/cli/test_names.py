"""File names that are no text, or that would end a line or colour a terminal: from the data to the page."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.cli.commandline import run as run_command
from clan.core.output import encoded, one_line
from clan.run.config import load

NAMES = ["two\nlines", "tab\tbed", "\x1b[31mred", "🚲", "-dash", "100%", "{x}[1]"]
NAMES.insert(0, os.fsdecode("中文".encode("gbk")))
LONG = "l" * 235  # as long as the names of all that is made of it allow: 255 bytes
FOLDER = Path(os.fsdecode("数据".encode("gbk")))
DESCRIPTION = f'''root: "{FOLDER}"
images: "images/{{name}}.png"
labels: "labels/{{name}}.png"
classes: {{road: 0, sky: 1}}
'''
TRAIN = """
train --source odd.yaml --target odd.yaml --network.backbone resnet-tiny --network.discriminator-width 8
--source.size 64 32 --target.size 64 32 --num-steps 6 --save-every 3 --save-images 9 --num-workers 0
--tolerate-bad-samples 2
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data set of odd names in the working folder, in a folder of an odd name."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (FOLDER / kind).mkdir(parents=True)
    for name in (*NAMES, LONG):
        ids = draw.integers(0, 2, (32, 64), np.uint8)
        Image.fromarray(np.stack([ids * 200] * 3, -1)).save(FOLDER / f"images/{name}.png")
        Image.fromarray(ids).save(FOLDER / f"labels/{name}.png")
    Path("odd.yaml").write_bytes(encoded(DESCRIPTION))


def test_odd_names_are_trained_on_evaluated_recorded_and_shown(data, capfd):
    def clan(*words):
        run_command(lambda: cli.dispatch([str(word) for word in words]))
        printed = capfd.readouterr().out
        assert "\x1b" not in printed
        return printed

    assert "everything can be used" in clan("data", "check", "odd.yaml")
    damaged = FOLDER / f"images/{NAMES[0]}.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-40])
    run = Path(os.fsdecode("跑".encode("gbk")))
    clan(*TRAIN.split(), "--snapshot-dir", run)
    record = (run / "bad_samples.txt").read_text("utf-8")
    assert record.count("\n") == len(record.splitlines()) >= 1
    assert one_line(NAMES[0]) in record
    assert load(run / "config.yaml").source.root.name == FOLDER.name
    assert len(list((run / "images").glob("odd_6_*.png"))) == len(NAMES)
    assert list((run / "tensorboard").iterdir())
    damaged.write_bytes(whole)
    clan("evaluate", run)
    scores = sorted(Path("result").glob("*/scores.json"))[0]
    assert set(NAMES) <= json.loads(scores.read_bytes())["images"].keys()
    (table,) = Path("mIoU_results").glob("*.csv")
    assert [row[1] for row in csv.reader(table.read_text("utf-8").splitlines())] == ["iteration", "3", "6"]
    clan("report", run, "--images", 9)
    page = Path("report.html").read_text("utf-8")
    assert one_line(NAMES[0]) in page
    clan("predict", FOLDER / "images", "--weights", run / "odd_6.pdparams")
    assert Path(f"predictions/{NAMES[0]}.png").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_json_on_stdout_is_json_in_every_encoding(data, encoding):
    for name in ("é", "🚲"):
        (FOLDER / f"images/{name}.png").write_bytes(b"damaged")
    command = [sys.executable, "-m", "clan", "data", "check", "odd.yaml", "--json"]
    told = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding})
    (found,) = json.loads(told.stdout.decode(encoding))["splits"].values()
    for name in ("é", "🚲"):
        assert any(f"{name}.png" in problem for problem in found["problems"])


def test_names_are_written_on_one_line_and_read_back():
    name = NAMES[0] + NAMES[1] + NAMES[3]
    assert one_line(name) == r"\udcd6\udcd0\udcce\udcc4two\nlines\x1b[31mred"
    assert json.loads(encoded(json.dumps(name, ensure_ascii=False))) == name
    assert one_line("100 % 中文 🚲") == "100 % 中文 🚲"
