"""What a user can get wrong ends with one sentence that names it, exit code 2, and nothing half-written."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from clan.cli import main as cli
from clan.cli.commandline import run
from clan.cli.port import evaluate, iou, train
from clan.datasets import NAMED_CLASSES
from clan.evaluation.scores_file import write_classes
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weight_files import read_arrays, write_arrays
from clan.models.weights import save_weights
from clan.run import presets as recipes
from clan.run.config import to_yaml
from tests.needs import needed
from tests.pages import ROOT

TRAIN_COMMANDS = ("CLAN_train.py", "clan train")


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def data(worlds, tmp_path):
    """A copy of the drawn data that may be damaged."""
    return Path(shutil.copytree(worlds, tmp_path / "data"))


@pytest.fixture(autouse=True)
def small_preset(tiny, monkeypatch, tmp_path):
    """Makes the default preset a small run in an empty working folder."""
    monkeypatch.setitem(recipes.PRESETS, "official", lambda source: tiny())
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=TRAIN_COMMANDS)
def train_error(request, error_of):
    """Runs training with the port's flags, or with what they are called for `clan train`."""

    def call(*arguments):
        if request.param == "CLAN_train.py":
            return error_of(train.main, *arguments)
        return error_of(cli.dispatch, "train", *translated(arguments))

    return call


def translated(arguments):
    """The port's flags → those of `clan train`; a size `W,H` becomes two words."""
    for argument in map(str, arguments):
        if field := train.FLAG_FIELDS.get(argument):
            yield f"--{field.replace('_', '-')}"
        else:
            yield from argument.split(",")


@pytest.fixture
def snapshot(tiny, tmp_path):
    """A small network's weights in a run's folder."""
    config = tiny(snapshot_dir=tmp_path / "snapshots")
    config.snapshot_dir.mkdir()
    (config.snapshot_dir / "config.yaml").write_text(to_yaml(config))
    path = config.snapshot_dir / "SYS_2.pdparams"
    save_weights(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=19)), path)
    return path


# --- Options ---

OPTIONS = {
    "unknown flag": (["--lerning-rate", "1"], "lerning-rate"),
    "abbreviated flag": (["--num-step", "1"], "num-step"),
    "unknown preset": (["--preset", "fast"], "fast"),
    "unknown source": (["--source", "kitti"], "kitti"),
    "size with an x": (["--input-size-source", "1280x760"], "1280x760"),
    "size of nothing": (["--input-size-target", "0,512"], "0"),
    "negative rate": (["--learning-rate", "-0.001"], "-0.001"),
    "rate that is none": (["--learning-rate", "fast"], "fast"),
    "infinite rate": (["--learning-rate-D", "inf"], "inf"),
    "no image": (["--batch-size", "0"], "0"),
    "half an image": (["--batch-size", "0.5"], "0.5"),
    "stop beyond the end": (["--num-steps", "10", "--num-steps-stop", "11"], "11"),
    "GPU on a CPU build": (["--device", "gpu"], "CPU build"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_training_refuses_an_option(case, train_error, tmp_path):
    arguments, named = OPTIONS[case]
    needed("cpu build", case != "GPU on a CPU build" or not paddle.is_compiled_with_cuda())
    assert named in train_error(*arguments)
    assert files(tmp_path) == set()


def test_every_command_refuses_what_it_does_not_know(error_of):
    for main in (evaluate.main, evaluate.main_bulk, iou.main_bulk):
        assert "--gup" in error_of(main, "--gup", 0)
    assert "--gup" in error_of(iou.main, "truth", "result", "--gup")
    assert "gt_dir" in error_of(iou.main)
    assert "1024x512" in error_of(evaluate.main, "--input-size", "1024x512")
    assert "FCN" in error_of(evaluate.main, "--model", "FCN")
    assert "FCN" in error_of(train.main, "--model", "FCN")
    assert "KITTI" in error_of(train.main, "--target", "KITTI")
    for command in ("evaluate", "iou"):
        assert "--gup" in error_of(cli.dispatch, command, "a", "b", "--gup")
    assert "weights" in error_of(cli.dispatch, "evaluate").lower()
    assert "1024x512" in error_of(cli.dispatch, "evaluate", "w.pdparams", "--input-size", "1024x512")
    assert "trian" in error_of(cli.dispatch, "trian")


def test_a_config_that_does_not_fit(error_of, tmp_path):
    assert "nowhere.yaml" in error_of(cli.dispatch, "train", "--config", "nowhere.yaml")
    (tmp_path / "config.yaml").write_text("losses: 3")
    assert "config.yaml" in error_of(cli.dispatch, "train", "--config", "config.yaml")


# --- Data ---


def test_missing_data_folders(train_error):
    for flag in ("--data-dir", "--data-dir-target"):
        assert "nowhere" in train_error(flag, "nowhere")
    assert "nosuchsplit" in train_error("--set", "nosuchsplit")


def test_a_data_folder_without_images(train_error, tmp_path):
    (tmp_path / "empty/RGB").mkdir(parents=True)
    assert "empty/RGB" in train_error("--data-dir", "empty")


@pytest.mark.parametrize("flag", ["--data-list", "--data-list-target"])
def test_lists(flag, train_error, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "wrong.txt").write_text("0000000.png\nnot_there.png\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xfa")
    assert "empty.txt" in train_error(flag, "empty.txt")
    sentence = train_error(flag, "wrong.txt")
    assert "wrong.txt" in sentence
    assert ".png" in sentence
    assert "binary.txt" in train_error(flag, "binary.txt")
    assert "missing.txt" in train_error(flag, "missing.txt")


def cut_image(data):
    path = data / "SYNTHIA/RAND_CITYSCAPES/RGB/0000001.png"
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def cut_label(data):
    path = data / "SYNTHIA/RAND_CITYSCAPES/GT/LABELS/0000001.png"
    path.write_bytes(path.read_bytes()[:100])
    return path


def eight_bit_label(data):
    path = data / "SYNTHIA/RAND_CITYSCAPES/GT/LABELS/0000001.png"
    Image.fromarray(np.zeros((64, 128, 3), np.uint8)).save(path)
    return path


def missing_label(data):
    path = data / "SYNTHIA/RAND_CITYSCAPES/GT/LABELS/0000001.png"
    path.unlink()
    return path


def smaller_image(data):
    path = data / "SYNTHIA/RAND_CITYSCAPES/RGB/0000001.png"
    Image.new("RGB", (64, 32)).save(path)
    return path


def no_image(data):
    path = next((data / "Cityscapes/leftImg8bit/train/lindenau").glob("*_000001_*"))
    path.write_text("<html>404</html>")
    return path


DAMAGES = (cut_image, cut_label, eight_bit_label, missing_label, smaller_image, no_image)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_samples_end_training(damage, data, train_error, tmp_path, tiny, monkeypatch):
    synthia, cityscapes = data / "SYNTHIA/RAND_CITYSCAPES", data / "Cityscapes"
    changes = {"source__root": synthia, "target__root": cityscapes, "shuffle": False, "num_workers": 2}
    monkeypatch.setitem(recipes.PRESETS, "official", lambda source: tiny(**changes))
    assert str(damage(data)) in train_error()
    # The sample before the damaged one was trained on; nothing was due to be saved yet.
    records = {path for path in files(tmp_path / "run") if not path.startswith("tensorboard/")}
    assert records == {"config.yaml", "environment.json", "loss.txt", "metrics.jsonl"}
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0]
    assert len((tmp_path / "run/loss.txt").read_text().splitlines()) == 1


# --- Weights ---


def test_training_from_weights_that_do_not_fit(train_error, tmp_path):
    write_arrays({"fc.weight": np.zeros((3, 3), np.float32)}, tmp_path / "other.pdparams")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    for flag in ("--restore-from", "--restore-from-D"):
        sentence = train_error(flag, "other.pdparams")
        assert "other.pdparams" in sentence
        assert "fc.weight" in sentence
        assert "page.pth" in train_error(flag, "page.pth")
        assert "missing.pdparams" in train_error(flag, "missing.pdparams")
    assert files(tmp_path / "run") == set()


def test_errors_name_the_flags_of_the_command_at_hand(error_of):
    def clan_train(*arguments):
        cli.dispatch(["train", *arguments[0]])

    seed, own = ("--data-dir", "--data-dir-target"), ("--source.root", "--target.root")
    for main, flags in ((train.main, seed), (clan_train, own)):
        for flag in flags:
            assert error_of(main, flag, "nowhere").endswith(f"name its folder with {flag}")
    assert "CLAN_train.py: --learning-rate: input should" in error_of(train.main, "--learning-rate", -1)


@pytest.fixture(params=["CLAN_evaluate.py", "clan evaluate"])
def evaluation_error(request, error_of, worlds):
    """Evaluates weights, with further arguments, by either command."""

    def call(weights, *arguments):
        common = ["--data-dir", worlds / "Cityscapes", "--save", "result", "--input-size"]
        if request.param == "CLAN_evaluate.py":
            return error_of(evaluate.main, "--restore-from", weights, *common, "64,32", *arguments)
        return error_of(cli.dispatch, "evaluate", weights, *common, "64", "32", *arguments)

    return call


def test_evaluating_weights_that_do_not_fit(evaluation_error, snapshot, tmp_path):
    assert "there are the 19 classes of cityscapes; " in evaluation_error(snapshot, "--num-classes", 16)
    assert "nowhere.pdparams" in evaluation_error("nowhere.pdparams")
    other = snapshot.with_name("other.pdparams")
    write_arrays({"fc.weight": np.zeros((3, 3), np.float32)}, other)
    assert "fc.weight" in evaluation_error(other)
    part = snapshot.with_name("part.safetensors")
    arrays = read_arrays(snapshot)
    write_arrays({name: array for name, array in arrays.items() if "layer6" not in name}, part)
    assert "layer6" in evaluation_error(part)
    cut = snapshot.with_name("cut.pdparams")
    cut.write_bytes(snapshot.read_bytes()[:-1000])
    assert "cut.pdparams" in evaluation_error(cut)
    assert not (tmp_path / "result").exists()


def test_what_cannot_be_scored_is_refused_before_label_maps_are_made(error_of, snapshot, data, tmp_path):
    command = ("evaluate", snapshot, "--data-dir", data / "Cityscapes", "--input-size", 64, 32)
    image, other = sorted((data / "Cityscapes/leftImg8bit/val").rglob("*.png"))
    (tmp_path / "list.txt").write_text(f"{image}\n{other}\n{image}\n")
    assert f"{image} is listed 2 times" in error_of(cli.dispatch, *command, "--data-list", "list.txt")
    next((data / "Cityscapes/gtFine/val").rglob("*_labelIds.png")).unlink()
    assert "1 of 2 ground truths are missing" in error_of(cli.dispatch, *command)
    assert not (tmp_path / "result").exists()


def test_numbers_out_of_range(error_of, tmp_path):
    assert "--images -3" in error_of(cli.dispatch, "report", "run", "--images", -3)
    for seed in (-1, 10**20):
        assert f"--seed {seed}" in error_of(cli.dispatch, "demo", "there", "--seed", seed)
        assert f"--seed {seed}" in error_of(cli.dispatch, "inspect", "run", "--seed", seed)
    assert f"--steps {10**12}" in error_of(cli.dispatch, "demo", "there", "--steps", 10**12)
    assert files(tmp_path) == set()


def test_scoring_refuses_flags_that_nothing_reads(error_of, predictions, tmp_path):
    folder, truth = predictions
    (tmp_path / "own.yaml").write_text(
        f'root: {truth}\nimages: "{{name}}.png"\nlabels: "{{name}}.png"\nclasses: {{road: 7}}'
    )
    assert "omit --split test" in error_of(cli.dispatch, "iou", truth, folder, "--split", "test")
    assert "omit --split test" in error_of(cli.dispatch, "iou", "own.yaml", folder, "--split", "test")
    assert "omit --devkit-dir there" in error_of(cli.dispatch, "iou", "own.yaml", folder, "--devkit-dir", "there")


def test_sizes_and_labels_that_are_none(error_of, snapshot, data, tmp_path):
    images = data / "Cityscapes/leftImg8bit"
    for size in ((0, 32), (64, -1), (64, 10**6)):
        said = " ".join(map(str, size))
        commands = [
            ("predict", images, "--weights", snapshot, "--input-size", *size),
            *(("evaluate", snapshot, "--data-dir", data / "Cityscapes", f"--{kind}-size", *size)
              for kind in ("input", "output")),
        ]  # fmt: skip
        for command in commands:
            assert f"-size {said} is no size of an image" in error_of(cli.dispatch, *command)
    assert "error: --size 0 8 is no size" in error_of(cli.dispatch, "export", snapshot, "-o", "there", "--size", 0, 8)
    given = ("--restore-from", snapshot, "--data-dir", data / "Cityscapes")
    assert "--output-size 999999 8" in error_of(evaluate.main, *given, "--output-size", "999999,8")
    assert "--ignore-label -1 is no trainId" in error_of(evaluate.main, *given, "--ignore-label", -1)
    assert not (tmp_path / "result").exists()


def test_evaluating_what_cannot_be_read_or_written(evaluation_error, snapshot, data, tmp_path, worlds):
    sentence = evaluation_error(snapshot, "--data-dir", "nowhere")
    assert "nowhere" in sentence
    assert sentence.endswith("name its folder with --data-dir")
    assert "nowhere.pdparams does not exist" in evaluation_error("nowhere.pdparams", "--data-dir", "nowhere")
    (tmp_path / "list.txt").write_text("brueckstadt/nobody.png")
    assert "nobody.png" in evaluation_error(snapshot, "--data-list", "list.txt")
    image = sorted((data / "Cityscapes/leftImg8bit/val").rglob("*.png"))[1]
    image.write_bytes(image.read_bytes()[:-2000])
    assert str(image) in evaluation_error(snapshot, "--data-dir", data / "Cityscapes")
    for path in (tmp_path / "result").rglob("*.*"):  # the image before the damaged one may be done
        assert not path.name.startswith(".")
        Image.open(path).load()
    (tmp_path / "file").write_text("")
    assert "file" in evaluation_error(snapshot, "--save", "file")
    if not paddle.is_compiled_with_cuda():
        assert "CPU build" in evaluation_error(snapshot, "--device", "gpu")


def test_nothing_to_evaluate_or_score_in_bulk(error_of, tmp_path):
    assert "snapshots" in error_of(evaluate.main_bulk)
    assert "nowhere" in error_of(evaluate.main_bulk, "--snapshot-dir", "nowhere")
    assert "result" in error_of(iou.main_bulk)
    assert files(tmp_path) == set()


def test_label_maps_of_other_classes_are_not_put_into_one_table(error_of, predictions, tmp_path):
    folder, truth = predictions
    for iteration in (2, 4):
        shutil.copytree(folder, tmp_path / f"result/run_{iteration}")
    write_classes(tmp_path / "result/run_4", NAMED_CLASSES["synthia-16"])
    sentence = error_of(iou.main_bulk, truth)
    assert "result/run_4 have 16 classes, and those of run_2 beside it 19" in sentence
    assert not (tmp_path / "mIoU_results").exists()


@pytest.mark.parametrize("depth", [0, 1])
def test_truths_may_lie_at_the_top_of_a_disk(depth, predictions, tmp_path, monkeypatch):
    folder, truth = predictions
    place = Path("/") / "/".join(["truth"] * depth)
    shutil.copytree(folder, tmp_path / "result/run_2")
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: place if path == truth else path.absolute())
    iou.main_bulk([str(truth)])
    assert json.loads((tmp_path / "result/run_2/scores.json").read_text())["dataset"]["root"] == "/"


def test_what_the_system_refuses_is_named_by_every_command(error_of, monkeypatch):
    def refused(path, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    for main, *words in (
        (iou.main, "truth", "theirs"),
        (iou.main_bulk, "truth", "theirs"),
        (evaluate.main, "--restore-from", "theirs"),
        *((cli.dispatch, command, "theirs") for command in ("evaluate", "report", "inspect", "select")),
    ):
        sentence = error_of(main, *words)
        assert "Permission denied" in sentence
        assert "theirs" in sentence
    monkeypatch.undo()
    assert f"error: {'n' * 300}" in error_of(cli.dispatch, "evaluate", "n" * 300)


def test_a_description_that_cannot_be_written(error_of, worlds, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "cannot write file/x.yaml" in error_of(
        cli.dispatch, "data", "init", worlds / "Cityscapes", "-o", "file/x.yaml"
    )
    assert files(tmp_path) == {"file"}


# --- Folders and states ---


def test_a_snapshot_folder_that_cannot_be_written_to(train_error, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file" in train_error("--snapshot-dir", "file")
    assert "file/run" in train_error("--snapshot-dir", "file/run")
    if Path("/proc/self").is_dir():
        assert "/proc/run" in train_error("--snapshot-dir", "/proc/run")
    assert files(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "mine"


def test_resuming_without_a_state(train_error, tmp_path):
    sentence = train_error("--resume", "--snapshot-dir", "elsewhere")
    assert "elsewhere holds no state" in sentence
    assert files(tmp_path) == set()


@pytest.fixture
def stopped(capsys):
    """A run's folder with a state to resume from; returns what is in it."""
    run(lambda: train.main(["--num-steps-stop", "1"]))
    capsys.readouterr()
    return {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


CHANGES = {
    "--learning-rate": ("0.5", "learning_rate: 0.00025 → 0.5"),
    "--batch-size": ("2", "batch_size: 1 → 2"),
    "--random-seed": ("5", "seed: 1234 → 5"),
    "--num-steps": ("8", "num_steps: 4 → 8"),
}


def test_resuming_another_configuration(stopped, train_error):
    for flag, (value, change) in CHANGES.items():
        assert change in train_error("--resume", flag, value)
    assert {path: path.read_bytes() for path in stopped} == stopped


def test_resuming_with_another_number_of_scales(stopped, error_of):
    sentence = error_of(cli.dispatch, "train", "--resume", "--augmentation.scales", "1", "1")
    changed = "the configuration changed in augmentation.scales: [[0.8, 0.3], [1.0, 0.4], [1.1, 0.3]] → [[1.0, 1.0]];"
    assert changed in sentence


def test_resuming_with_what_leaves_the_numbers_alone(stopped, capsys):
    run(lambda: train.main(["--resume", "--num-workers", "2", "--save-pred-every", "1", "--num-steps-stop", "2"]))
    assert "resuming at iteration 1" in capsys.readouterr().out


def test_resuming_a_damaged_state(stopped, train_error):
    path = Path("run/states/1.safetensors")
    whole = path.read_bytes()
    for damaged in (whole[:-5000], whole[:100], whole[:4], b"", b"<html>404</html>"):
        path.write_bytes(damaged)
        assert str(path) in train_error("--resume")
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    assert {path: path.read_bytes() for path in stopped} == stopped


# --- Scoring ---


@pytest.fixture(params=["CLAN_iou.py", "clan iou"])
def iou_error(request, error_of):
    def call(*arguments):
        if request.param == "CLAN_iou.py":
            return error_of(iou.main, *arguments)
        return error_of(cli.dispatch, "iou", *arguments)

    return call


@pytest.fixture
def predictions(worlds, tmp_path):
    """A folder of predictions for the drawn validation set, and the folder of its truths."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    for image in (worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"):
        Image.new("L", (128, 64)).save(folder / image.name)
    return folder, worlds / "Cityscapes/gtFine/val"


def test_predictions_that_do_not_fit(iou_error, predictions):
    folder, truth = predictions
    first, second = sorted(folder.iterdir())
    assert "nowhere" in iou_error(truth, "nowhere")
    assert "nowhere" in iou_error("nowhere", folder)
    Image.new("L", (64, 32)).save(first)
    sentence = iou_error(truth, folder)
    assert first.name in sentence
    assert "64×32" in sentence
    assert "128×64" in sentence
    Image.new("RGB", (128, 64)).save(first)
    assert "RGB" in iou_error(truth, folder)
    Image.new("L", (128, 64), 19).save(first)
    sentence = iou_error(truth, folder)
    assert first.name in sentence
    assert sentence.endswith("write trainIds, or give --label-ids")
    Image.new("L", (128, 64), 0).save(first)
    assert iou_error(truth, folder, "--label-ids").endswith("write labelIds, or omit --label-ids")
    first.write_bytes(b"\x89PNG")
    assert first.name in iou_error(truth, folder)
    first.unlink()
    assert "1 of 2 predictions are missing" in iou_error(truth, folder)
    second.unlink()
    assert "2 of 2 predictions are missing" in iou_error(truth, folder)


def test_lists_of_another_length(iou_error, predictions, tmp_path):
    folder, truth = predictions
    info = {"label": [f"class {index}" for index in range(19)], "label2train": [[7, 0]]}
    (tmp_path / "info.json").write_text(json.dumps(info))
    (tmp_path / "label.txt").write_text("a_gtFine_labelIds.png\n")
    (tmp_path / "val.txt").write_text("a_leftImg8bit.png\nb_leftImg8bit.png\n")
    assert "2 images but label.txt names 1" in iou_error(truth, folder, "--devkit_dir", tmp_path)


def test_a_workbook_that_cannot_be_written(error_of, predictions, tmp_path):
    folder, truth = predictions
    (tmp_path / "result").mkdir()
    folder.rename(tmp_path / "result/SYS2Cityscapes_2")
    (tmp_path / "file").write_text("")
    assert "file" in error_of(iou.main_bulk, truth, "result", "--save", "file")


# --- The real scripts, as processes ---

PROCESSES = {
    "CLAN_train.py": (["--data-dir", "nowhere"], "nowhere"),
    "CLAN_evaluate.py": (["--restore-from", "nowhere.pdparams"], "nowhere.pdparams does not exist"),
    "CLAN_iou.py": (["nowhere", "result"], "nowhere"),
    "CLAN_evaluate_bulk.py": ([], "snapshots"),
    "CLAN_iou_bulk.py": ([], "result"),
}


@pytest.mark.parametrize("script", PROCESSES)
def test_a_process_ends_with_one_sentence(script, tmp_path):
    arguments, named = PROCESSES[script]
    command = [sys.executable, str(ROOT / script), *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert files(tmp_path) == set()


def test_a_gpu_that_is_not_there(error_of, data):
    arguments = ("w.pdparams", "--data-dir", data / "Cityscapes", "--gpu", 3)
    assert "--gpu 3" in error_of(cli.dispatch, "evaluate", *arguments)
