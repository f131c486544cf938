"""What goes wrong around a run, end to end through the command line; `python -m benchmarks.faults` is the long one."""

import json
import re
import resource
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from benchmarks.faults import (
    COMMAND,
    damaged_images,
    damaged_states,
    finish,
    kill_and_resume,
    start,
    wait_until,
    write_run,
)
from clan.cli import main as cli
from clan.methods.clan import CLAN
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weight_files import write_arrays
from clan.models.weights import to_file_names
from clan.run.checkpoint import States, read_state
from clan.run.config import to_yaml
from clan.training.labels import count_classes
from clan.training.trainer import build_samplers
from tests.conftest import assert_same_end, metrics
from tests.models.malicious import CORPUS, WITNESS
from tests.needs import needed
from tests.pages import ROOT


def lines(folder):
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_runs_end_in_the_same_parameters(tmp_path):
    tally = kill_and_resume(tmp_path, kills=3, writing=1, seed=2, steps=40)
    assert (tally.kills, tally.faults) == (3, [])
    for good, times in (
        damaged_states(tmp_path / "whole", times=40, seed=0),
        damaged_images(tmp_path, times=40, seed=0),
    ):
        assert good == times


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """The configuration of a run of 60 iterations with one state, at its end, and the folder of the run."""
    folder = tmp_path_factory.mktemp("long")
    config = write_run(folder, steps=60, save_every=60)
    finish(config, folder / "whole", "--num-workers", 2)
    return config, folder / "whole"


@pytest.fixture(scope="module")
def first_third(long_run, tmp_path_factory):
    """The folder of the same run, stopped after 20 iterations; to be copied."""
    run = tmp_path_factory.mktemp("third") / "run"
    finish(long_run[0], run, "--num-steps-stop", 20, "--save-every", 20)
    return run


def with_first(code):
    """The command of `clan train` in a process that runs some Python before."""
    return (*COMMAND[:2], f"{code}\n{COMMAND[2]}", *COMMAND[3:])


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk of so many MB in memory, and mounts it again with other options; returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        needed("disk", shutil.which("mount"))
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        done = subprocess.run(words, capture_output=True, text=True)
        needed("disk", done.returncode == 0)
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", folder], check=True)


def complaint(process):
    """The sentence that a process ended with, and exit code 2; slow machines report their progress before."""
    _, complaints = process.communicate(timeout=600)
    assert process.returncode == 2, complaints
    assert "Traceback" not in complaints
    return complaints.splitlines()[-1]


def fill(file, room):
    """Lets a file grow until its disk has so many bytes left."""
    with file.open("wb", buffering=0) as output, suppress(OSError):
        while (free := shutil.disk_usage(file.parent).free) > room:
            output.write(bytes(min(free - room, 1 << 20)))


def test_a_signal_finishes_the_iteration_saves_and_says_how_to_go_on(long_run, tmp_path):
    config, whole = long_run
    run, resume = tmp_path / "run", []
    for number, workers in ((signal.SIGUSR1, 0), (signal.SIGTERM, 3), (signal.SIGINT, 1)):
        process = start(config, run, *resume, "--num-workers", workers)
        done = lines(run)
        wait_until(process, lambda done=done: lines(run) > done + 5)
        process.send_signal(number)
        _, complaints = process.communicate()
        assert process.returncode == 128 + number, complaints
        iteration = States(run).latest().iteration
        assert iteration == lines(run) < 60
        assert f"{number.name}: stopped at iteration {iteration} of 60, all saved; go on with: " in complaints
        resume = ["--resume"]
    subprocess.run(shlex.split(complaints.rpartition("go on with: ")[2]), check=True, capture_output=True)
    assert_same_end(run, whole)


def test_a_second_sigint_leaves_at_once(tmp_path):
    config = write_run(tmp_path, steps=50, save_every=1, size=(640, 320))
    run = tmp_path / "run"
    process = start(config, run)
    wait_until(process, lambda: lines(run) > 0 and States(run).paths() != [])
    states = [path.name for path in States(run).paths()]
    process.send_signal(signal.SIGINT)
    assert "SIGINT: finishing the iteration and saving; again: leaving at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT
    assert [path.name for path in States(run).paths()][-len(states) :] == states
    assert States(run).latest().iteration > 0


def test_a_state_that_exceeds_a_limit_ends_in_a_sentence_with_the_older_states_intact(long_run, first_third, tmp_path):
    """The system's limit on the size of files, which a state exceeds and a snapshot does not."""
    config, whole = long_run
    run = Path(shutil.copytree(first_third, tmp_path / "run"))
    size = States(run).paths()[0].stat().st_size - 1000

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    process = start(config, run, "--resume", "--num-steps-stop", 40, "--save-every", 20, preexec_fn=limit)
    sentence = complaint(process)
    assert sentence.startswith(f"error: cannot write {run}/states/40.safetensors (File too large): free disk space")
    assert [read_state(path).iteration for path in States(run).paths()] == [20]
    finish(config, run, "--resume")
    assert_same_end(run, whole)


@pytest.mark.parametrize("left", ["nothing", "a snapshot and half a state"])
def test_a_disk_that_fills_up_ends_in_a_sentence_with_the_older_states_intact(long_run, first_third, disk, left):
    """Training looked for space before it began, and then another program takes it."""
    config, whole = long_run
    run = Path(shutil.copytree(first_third, disk("size=64m") / "run"))
    state = States(run).paths()[0].stat().st_size
    snapshot = sum(path.stat().st_size for path in run.glob("*_20*.pdparams"))
    room = 0 if left == "nothing" else snapshot + state // 2
    process = start(config, run, "--resume", "--save-every", 20, "--loggers")  # whose files would take the room
    wait_until(process, lambda: lines(run) > 22)
    filler = run.with_name("filler")
    fill(filler, room)
    sentence = complaint(process)
    place = f"the records in {run}" if left == "nothing" else f"{run}/states/40.safetensors"
    assert sentence.startswith(f"error: cannot write {place} (No space left on device): free disk space")
    assert [read_state(path).iteration for path in States(run).paths()] == [20]
    filler.unlink()
    finish(config, run, "--resume")
    assert_same_end(run, whole)


def test_a_disk_that_is_too_small_is_said_before_training(long_run, disk):
    run = disk("size=1m") / "run"
    sentence = complaint(start(long_run[0], run))
    assert re.match(rf"error: the run will write 0\.0\d GB to {run}, where 0\.00 GB are free: free space", sentence)
    assert not list(run.glob("*.pdparams"))
    assert lines(run) == 0


def test_a_folder_that_cannot_be_written_to_is_refused_and_left_as_it_is(long_run, first_third, disk):
    run = Path(shutil.copytree(first_third, disk("size=64m") / "run"))
    disk("remount,ro")
    sentence = complaint(start(long_run[0], run, "--resume"))
    assert sentence == f"error: cannot write to {run} (Read-only file system): choose another --snapshot-dir"
    assert States(run).latest().iteration == 20


def test_a_data_folder_that_vanishes_ends_the_run_with_its_name(tmp_path):
    config = write_run(tmp_path, steps=500, save_every=5)
    run = tmp_path / "run"
    process = start(config, run)
    wait_until(process, lambda: States(run).paths() != [])
    (tmp_path / "Cityscapes").rename(tmp_path / "gone")
    sentence = complaint(process)
    assert sentence.startswith(f"error: {tmp_path}/Cityscapes/leftImg8bit/train/")
    assert "does not exist" in sentence
    assert States(run).latest().iteration > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_hangs_ends_the_run_with_its_name(tmp_path, workers):
    config = write_run(tmp_path, steps=4, save_every=4)
    images = tmp_path / "SYNTHIA/RAND_CITYSCAPES/RGB"
    hang = with_first(  # as a network drive that is gone: whoever opens a file there waits for ever
        "import sys, time\n"
        f"sys.addaudithook(lambda event, a: event == 'open' and {str(images)!r} in str(a[0]) and time.sleep(1e6))"
    )
    options = ("--data-timeout", 1, "--num-workers", workers)
    sentence = complaint(start(config, tmp_path / "run", *options, command=hang))
    assert re.match(r"error: reading 000000\d\.png has taken more than 1 s: is its drive still there\? ", sentence)


def test_a_label_s_loss_that_is_nan_ends_the_process_and_the_run_goes_on_from_the_state_before(
    long_run, first_third, tmp_path
):
    config, whole = long_run
    run = Path(shutil.copytree(first_third, tmp_path / "run"))
    poisoned = with_first("import pytest, tests.training.test_faults as t; t.poison(pytest.MonkeyPatch(), {22})")
    sentence = complaint(start(config, run, "--resume", command=poisoned, cwd=ROOT))
    assert re.match(r"error: loss_seg is nan at iteration 22 \(samples 000000\d\.png, ", sentence)
    assert (run / "nonfinite/22.safetensors").exists()
    assert States(run).latest().iteration == 20
    finish(config, run, "--resume")
    assert_same_end(run, whole)


# --- Within this process ---


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The arguments of `clan train` on a configuration, which is written to a file."""
    monkeypatch.chdir(tmp_path)

    def write(config, *options):
        path = tmp_path / "config.yaml"
        path.write_text(to_yaml(config), encoding="utf-8")
        return ["train", "--config", str(path), *map(str, options)]

    return write


@pytest.fixture
def train(command, capsys):
    """`clan train` on a configuration; returns what it printed."""

    def call(config, *options):
        cli.dispatch(command(config, *options))
        return capsys.readouterr().out

    return call


@pytest.fixture
def train_error(command, error_of):
    """Like `train`, of a run that must fail; returns its sentence."""
    return lambda config, *options: error_of(cli.dispatch, *command(config, *options))


def poison(monkeypatch, iterations, *, gradient=False):
    """Makes a loss, or only a gradient, NaN at some iterations."""
    step = CLAN.train_step

    def train_step(self, batch, progress, backward):
        if progress.iteration not in iterations:
            return step(self, batch, progress, backward)
        if not gradient:
            loss = self.segmentation_loss
            self.segmentation_loss = lambda *tensors: loss(*tensors) * float("nan")
        losses = step(self, batch, progress, backward)
        if not gradient:
            self.segmentation_loss = loss
            return losses
        weight = self.segmenter.head1.parameters()[0]
        weight.grad.set_value(paddle.full_like(weight.grad, float("inf")))
        return losses

    monkeypatch.setattr(CLAN, "train_step", train_step)


def test_a_loss_that_is_not_finite_stops_before_the_step(tiny, train_error, monkeypatch):
    config = tiny(save_every=1)
    poison(monkeypatch, {2})
    sentence = train_error(config)
    dump = config.snapshot_dir / "nonfinite/2.safetensors"
    assert "error: loss_seg is nan at iteration 2 (samples 000000" in sentence
    assert f"networks and gradients are in {dump}" in sentence
    facts = json.loads(dump.with_suffix(".json").read_text())
    assert facts["iteration"] == 2
    assert len(facts["samples"]) == 2
    assert facts["losses"]["loss_seg"] == "nan"
    assert States(config.snapshot_dir).latest().iteration == 2, "the dump is none of those to resume from"


def test_a_gradient_that_is_not_finite_stops_before_the_step(tiny, train_error, monkeypatch):
    config = tiny(save_every=1)
    poison(monkeypatch, {1}, gradient=True)
    sentence = train_error(config)
    assert "the gradient of segmenter/head1.conv2d_list.0.weight is not finite at iteration 1 (samples" in sentence
    assert len(metrics(config.snapshot_dir)) == 1


def test_a_rate_far_too_high_ends_in_a_sentence(tiny, train_error):
    sentence = train_error(tiny(num_steps=30, warmup_steps=0), "--optimizer.learning-rate", "1e30")
    assert "is not finite" in sentence or "is nan" in sentence or "is inf" in sentence
    assert "lower the learning rates" in sentence


@pytest.mark.parametrize("gradient", [False, True])
def test_steps_that_are_not_finite_can_be_left_out(tiny, train, monkeypatch, gradient, tmp_path):
    """Nothing but the iteration moves on: the state after it is the one before it."""
    poison(monkeypatch, {1, 3}, gradient=gradient)
    config = tiny(save_every=1, keep_last=9, on_nonfinite="skip")
    printed = train(config)
    assert printed.count("step left out") == 2
    assert [line["nonfinite_steps"] for line in metrics(config.snapshot_dir)] == [0, 1, 1, 2]
    assert (metrics(config.snapshot_dir)[1]["loss_seg"] is None) != gradient
    by_iteration = {state.iteration: state for state in map(read_state, States(config.snapshot_dir).paths())}
    for name, array in by_iteration[1].arrays.items():
        np.testing.assert_array_equal(array, by_iteration[2].arrays[name], err_msg=name)
    assert by_iteration[4].notes["skipped_steps"] == 2
    parts = tiny(save_every=1, on_nonfinite="skip", snapshot_dir=tmp_path / "parts")
    train(parts, "--num-steps-stop", 2)
    train(parts, "--resume")
    assert_same_end(config.snapshot_dir, parts.snapshot_dir)


def test_weights_that_would_run_something_or_spoil_everything_are_refused(tiny, train_error, tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(CORPUS["pickle, GLOBAL"])
    sentence = train_error(tiny(network__restore_from=path))
    assert sentence.startswith(f"error: {path} names the Python object os system: ")
    assert not (tmp_path / WITNESS).exists()
    state = to_file_names(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=19)).state_dict())
    write_arrays({name: np.full(tensor.shape, np.nan, np.float32) for name, tensor in state.items()}, path)
    assert re.search(r"numbers in \S+ that are not finite", train_error(tiny(network__restore_from=path)))


@pytest.fixture
def with_bad(worlds, tmp_path):
    """Worlds of six source images, one of them damaged, one with a label of another size; and those two names."""
    data = Path(shutil.copytree(worlds, tmp_path / "data"))
    root = data / "SYNTHIA/RAND_CITYSCAPES"
    for number in range(3):
        for folder in ("RGB", "GT/LABELS"):
            shutil.copy(root / folder / f"{number:07d}.png", root / folder / f"{number + 3:07d}.png")
    cut = root / "RGB/0000001.png"
    cut.write_bytes(cut.read_bytes()[:-100])
    Image.new("RGB", (99, 64)).save(root / "RGB/0000004.png")
    return root, ["0000001.png", "0000004.png"]


def test_bad_samples_are_skipped_up_to_a_limit_recorded_and_the_same_on_any_path(tiny, train, with_bad, tmp_path):
    root, bad = with_bad
    options = {"source__root": root, "num_steps": 12, "tolerate_bad_samples": 2, "save_every": 4}
    runs = [tiny(**options, num_workers=workers, snapshot_dir=tmp_path / f"run{workers}") for workers in (0, 1, 3)]
    for config in runs:
        printed = train(config)
        assert printed.count("bad sample ") == 2
    parts = tiny(**options, snapshot_dir=tmp_path / "parts")
    train(parts, "--num-steps-stop", 5)
    train(parts, "--resume", "--num-workers", 2)
    for config in (*runs[1:], parts):
        assert_same_end(config.snapshot_dir, runs[0].snapshot_dir)
        text = (config.snapshot_dir / "bad_samples.txt").read_text()
        assert text == (runs[0].snapshot_dir / "bad_samples.txt").read_text()
    first, second = sorted(text.splitlines(), key=lambda line: line.split(":")[0].split()[-1])
    assert f"source {bad[0]}: {root}/RGB/{bad[0]} cannot be decoded (" in first
    assert f"source {bad[1]}: {root}/RGB/{bad[1]} is 99x64 but its label" in second
    assert metrics(parts.snapshot_dir)[-1]["bad_samples"] == 2


def test_a_label_that_cannot_be_read_is_left_out_of_the_class_weights(tiny, train, train_error, with_bad):
    root, _ = with_bad
    label = root / "GT/LABELS/0000002.png"
    label.write_bytes(label.read_bytes()[:-100])
    options = {"source__root": root, "loss__class_weighting": "sqrt-inverse", "num_steps": 1}
    assert f"error: {label} cannot be decoded" in train_error(tiny(**options))
    printed = train(tiny(**options, tolerate_bad_samples=3))
    assert f"left out of the class weights: {label} cannot be decoded" in printed
    dataset = build_samplers(tiny(**options))[0].dataset
    whole = dataset.part([index for index, name in enumerate(dataset.names) if name != label.name])
    np.testing.assert_array_equal(count_classes(dataset, tolerate=1), count_classes(whole))


def test_one_bad_sample_more_than_tolerated_ends_the_run(tiny, train_error, with_bad):
    root, bad = with_bad
    sentence = train_error(tiny(source__root=root, num_steps=12, tolerate_bad_samples=1))
    assert sentence.endswith("; --tolerate-bad-samples 1 are used up")
    assert any(name in sentence for name in bad)


def test_a_configuration_that_changed_is_refused_unless_that_is_asked_for(tiny, train, train_error):
    train(tiny(), "--num-steps-stop", 2)
    changed = tiny(optimizer__learning_rate=1e-5)
    assert "learning_rate: 0.00025 → 1e-05; give the same options, or --resume-with-changes" in train_error(
        changed, "--resume"
    )
    printed = train(changed, "--resume-with-changes")
    assert "the configuration changed in optimizer.learning_rate: 0.00025 → 1e-05" in printed
    assert "resuming at iteration 2" in printed
    assert len(metrics(changed.snapshot_dir)) == 4


def test_too_little_space_is_said_before_training(tiny, train_error, monkeypatch):
    free = shutil.disk_usage(".")._replace(free=20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    config = tiny(save_every=1)
    sentence = train_error(config)
    assert "error: the run will write 0.05 GB to " in sentence
    assert "where 0.02 GB are free: free space, choose another --snapshot-dir" in sentence
    assert not list(config.snapshot_dir.glob("SYS_*"))


def test_the_space_that_is_asked_for_is_what_a_run_takes(tiny, train, monkeypatch, capsys):
    """Less one state, which only lies there while the next is written."""
    asked = []
    monkeypatch.setattr("clan.training.trainer.check_space", lambda folder, needed: asked.append(needed))
    config = tiny(save_every=1, save_images=0)
    train(config)
    files = [path for path in config.snapshot_dir.rglob("*") if path.is_file()]
    state = States(config.snapshot_dir).paths()[0].stat().st_size
    assert asked[0] - state == pytest.approx(sum(path.stat().st_size for path in files), rel=0.02)
