"""Two processes on this machine, over gloo, started by Paddle's launcher as a user does."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clan.cli.main import dispatch
from clan.core.errors import CheckpointError, ConfigError
from clan.core.heartbeat import rank_timeout
from clan.core.ranks import ALONE
from clan.core.runtime import available_cores
from clan.evaluation.label_maps import load_segmenter
from clan.models.options import NetworkConfig
from clan.run.checkpoint import States, check_fits
from clan.run.config import to_yaml
from clan.run.records import read_validations
from clan.streets.worlds import write_worlds
from clan.training.trainer import Trainer
from clan.training.validation import Validator
from tests.conftest import metrics, tiny_config
from tests.pages import ROOT

CLAN = Path(sys.executable).with_name("clan")


LAUNCHER = (sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", 2)


def launch(folder, *command):
    """What a run on two ranks ends with; its output is what a user sees."""
    return start(*LAUNCHER, "--log_dir", folder / "launcher", *command)


def alone(*command):
    """The same in one process with as many threads as a rank has, since these change how sums are rounded."""
    threads = str(max(1, available_cores() // 2))
    return start(*command, OMP_NUM_THREADS=threads, NUMBA_NUM_THREADS=threads)


def start(*command, **environment):
    environment = own_environment() | environment
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=120)


def own_environment():
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return {**inherited, "PYTHONPATH": str(ROOT / "src")}


def write(config, path):
    path.write_text(to_yaml(config), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def two_ranks(worlds, tmp_path_factory):
    """A run of four iterations on two ranks, its configuration and what it printed."""
    return on_two_ranks(worlds, tmp_path_factory.mktemp("two"), validate_every=2)


def on_two_ranks(worlds, folder, **fields):
    config = tiny_config(worlds, folder / "run", **fields)
    result = launch(folder, CLAN, "train", "--config", write(config, folder / "config.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
    return config, folder, result


@pytest.fixture(scope="module")
def two_ranks_with_a_teacher(worlds, tmp_path_factory):
    """Like `two_ranks`, of self-training."""
    return on_two_ranks(worlds, tmp_path_factory.mktemp("teacher"), **SELF_TRAINING)


@pytest.fixture(scope="module")
def two_ranks_with_a_transformer(worlds, tmp_path_factory):
    """Like `two_ranks_with_a_teacher`, of MiT-B0 with DAFormer's head and AdamW."""
    return on_two_ranks(worlds, tmp_path_factory.mktemp("transformer"), **TRANSFORMER)


# A rate that training is stable at: where losses explode, rounding of the sums over ranks grows with them. Between half
# and all of the pixels reach the confidence. With 0.12 the input of a ReLU (layer3.0, after its second norm) is within
# rounding of 0 in the fourth iteration on an AMD processor without kernels: losses stay equal, momenta differ by 3e-3.
SELF_TRAINING = {
    "method": {"name": "mic", "confidence": 0.1, "mask_block": 8},
    "optimizer__learning_rate": 1e-4,
    "source__sampling": "rare-class",
}

TRANSFORMER = SELF_TRAINING | {
    "network__backbone": "mit-b0",
    "network__model": "daformer",
    "network__head_channels": 16,
    "network__num_heads": 1,
    "optimizer__algorithm": "adamw",
}


@pytest.mark.plain
@pytest.mark.parametrize(
    ("fixture", "fields"),
    [
        ("two_ranks", {}),
        ("two_ranks_with_a_teacher", SELF_TRAINING),
        ("two_ranks_with_a_transformer", TRANSFORMER),
    ],
)
def test_two_ranks_equal_one_process_of_two_passes(worlds, request, tmp_path, fixture, fields):
    two, _, _ = request.getfixturevalue(fixture)
    one = tiny_config(worlds, tmp_path / "run", iter_size=2, **fields)
    result = alone(CLAN, "train", "--config", write(one, tmp_path / "config.yaml"))
    assert result.returncode == 0, result.stderr
    expected, found = metrics(one.snapshot_dir), metrics(two.snapshot_dir)
    assert [sorted(line) for line in found] == [sorted(line) for line in expected]
    for left, right in zip(expected, found, strict=True):
        assert right == pytest.approx(left, rel=1e-4)
    expected, found = States(one.snapshot_dir).latest().arrays, States(two.snapshot_dir).latest().arrays
    assert found.keys() == expected.keys()
    # Running statistics are not the same: one process updates them twice per iteration, a rank once. A softmax does not
    # depend on the bias of its keys, whose gradient is rounding alone, which AdamW makes steps of.
    apart = ("._mean", "._variance", ".attn.kv.bias")
    for name in (name for name in expected if not name.partition("/moment")[0].endswith(apart)):
        tolerance = 1e-4 * np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def test_rank_0_alone_writes_and_talks(two_ranks):
    config, folder, result = two_ranks
    assert sorted(path.name for path in config.snapshot_dir.iterdir()) == [
        *(f"SYS_{i}{suffix}.pdparams" for i in (2, 4) for suffix in ("", "_D")),
        *("SYS_best.json", "SYS_best.pdparams", "config.yaml", "environment.json", "images", "loss.txt"),
        *("metrics.jsonl", "states", "tensorboard", "validation.jsonl"),
    ]
    assert [line["iteration"] for line in metrics(config.snapshot_dir)] == [0, 1, 2, 3]
    assert result.stdout.count("computing on cpu and 1 more like it") == 1
    assert not {"saved", "computing", "training"} & set((folder / "launcher/workerlog.1").read_text().split())


def test_rank_0_alone_counts_the_labels(two_ranks_with_a_teacher):
    config, folder, result = two_ranks_with_a_teacher
    assert (config.snapshot_dir / "class_pixels.source.json").is_file()
    spoken = "rare-class sampling never draws"
    assert result.stdout.count(spoken) == 1
    assert spoken not in (folder / "launcher/workerlog.1").read_text()


@pytest.mark.plain
def test_two_ranks_validate_as_one(two_ranks):
    """Each sees every second image; a pixel between two classes may be rounded to either."""
    config, _, _ = two_ranks
    found = read_validations(config.snapshot_dir / "validation.jsonl")
    assert [one.iteration for one in found] == [2, 4]
    validator = Validator(config, ALONE)
    segmenter = load_segmenter(
        config.snapshot_dir / "SYS_4.pdparams", NetworkConfig(backbone="resnet-tiny", num_classes=19)
    )
    alone = validator.validate(segmenter, 4, on_image=lambda done, total: None, stop=lambda: False)
    assert alone.dataset == found[1].dataset == "cityscapes val, 2 images"
    assert found[1].means == pytest.approx(alone.means, abs=0.01)


@pytest.fixture(scope="module")
def first_iteration(worlds, tmp_path_factory):
    """The same run after its first iteration, its folder and its state's arrays."""
    folder = tmp_path_factory.mktemp("halves")
    config = tiny_config(worlds, folder / "run", validate_every=2)
    result = launch(folder, CLAN, "train", "--config", write(config, folder / "config.yaml"), "--num-steps-stop", 1)
    assert result.returncode == 0, result.stdout + result.stderr
    return config, folder, States(config.snapshot_dir).latest().arrays


@pytest.mark.plain
def test_running_statistics_are_the_mean_of_the_ranks(worlds, first_iteration, tmp_path):
    """One process keeps m = 0.9 m + 0.1 x over a source and a target batch x per pass; so what rank 1 makes of m₀
    with the second pair is what one process makes of it in two passes, less what the first left in that."""

    def one_process(iter_size):
        config = tiny_config(worlds, tmp_path / f"{iter_size}", iter_size=iter_size, num_steps_stop=1)
        trainer = Trainer(config, notify=lambda sentence: None)
        start = {name: tensor.numpy().copy() for name, tensor in trainer.learner.state_dict().items()}
        trainer.run()
        return start, States(config.snapshot_dir).latest().arrays

    start, rank_0 = one_process(1)
    _, both = one_process(2)
    *_, found = first_iteration
    names = [name for name in found if name.endswith(("._mean", "._variance"))]
    assert names
    for name in names:
        rank_1 = both[name] - 0.81 * (rank_0[name] - start[name])
        np.testing.assert_allclose(found[name], (rank_0[name] + rank_1) / 2, rtol=1e-5, atol=2e-6, err_msg=name)
    others = max(np.abs(found[name] - rank_0[name]).max() for name in names)
    assert others > 1e-3, "rank 0's alone are something else"


@pytest.mark.plain
def test_a_run_on_two_ranks_resumes_bit_for_bit(two_ranks, first_iteration):
    whole, *_ = two_ranks
    halves, folder, _ = first_iteration
    assert launch(folder, CLAN, "train", "--config", folder / "config.yaml", "--resume").returncode == 0
    assert metrics(halves.snapshot_dir) == metrics(whole.snapshot_dir)
    for name in ("validation.jsonl", "SYS_best.json"):
        assert (halves.snapshot_dir / name).read_bytes() == (whole.snapshot_dir / name).read_bytes()
    left, right = (States(config.snapshot_dir).latest().arrays for config in (whole, halves))
    assert left.keys() == right.keys()
    assert [name for name in left if not np.array_equal(left[name], right[name])] == []


def test_a_run_goes_on_on_another_number_of_ranks_where_it_was_in_the_data(two_ranks, worlds, tmp_path):
    """As many pairs an iteration are no change; otherwise the flag says what is."""
    whole, *_ = two_ranks
    folder = tmp_path / "run"
    shutil.copytree(whole.snapshot_dir, folder)
    for path in (folder / "states").glob("4.*"):
        path.unlink()
    state = States(folder).latest()
    assert (state.iteration, state.ranks, state.pairs) == (2, 2, 4)
    given = whole.model_copy(update={"snapshot_dir": folder})
    with pytest.raises(CheckpointError, match=r"ranks: 2 → 1, so pairs of an iteration: 2 → 1; --iter-size 2 keeps"):
        check_fits(state, given)
    assert check_fits(state, given, accept_changes=True) == "ranks: 2 → 1, so pairs of an iteration: 2 → 1"
    trainer = Trainer(given.model_copy(update={"iter_size": 2}), resume=True, notify=lambda sentence: None)
    batches = iter(trainer.loader)
    seen = [next(batches).number for _ in range(4)]
    batches.close()
    assert seen == [4, 5, 6, 7]
    trainer.run()
    for left, right in zip(metrics(whole.snapshot_dir), metrics(folder), strict=True):
        assert right == pytest.approx(left, rel=1e-4)
    assert States(folder).latest().pairs == 8


def test_evaluation_on_two_ranks_gives_the_same_maps_and_scores(two_ranks, tmp_path):
    config, _, _ = two_ranks
    write_worlds(tmp_path, source_images=1, target_train_images=1, target_val_images=3, size=(128, 64), seed=0)
    options = ["--data-dir", tmp_path / "Cityscapes", "--input-size", 64, 32]

    def command(name):
        return [CLAN, "evaluate", config.snapshot_dir, *options, "--save", tmp_path / name, "--workbooks", tmp_path]

    result = alone(*command("one"))
    assert result.returncode == 0, result.stderr
    expected = (tmp_path / "run.csv").read_bytes()
    (tmp_path / "run.csv").unlink()
    result = launch(tmp_path, *command("two"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "run.csv").read_bytes() == expected
    maps = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert len(maps) == 2 * 2 * 3, "two files an image, of two snapshots, three images: an odd number for two ranks"
    for name in maps:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_one_rank_cannot_read_ends_all_with_its_sentence(worlds, tmp_path):
    """Rank 1 alone meets the damaged image; `CLAN_train.py`, with the full network."""
    images = sorted((worlds / "SYNTHIA/RAND_CITYSCAPES/RGB").iterdir())
    damaged = tmp_path / "SYNTHIA/RAND_CITYSCAPES"
    for source in (worlds / "SYNTHIA/RAND_CITYSCAPES").rglob("*.png"):
        target = damaged / source.relative_to(worlds / "SYNTHIA/RAND_CITYSCAPES")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes()[: 100 if source == images[1] else None])
    domains = ["--data-dir", damaged, "--data-dir-target", worlds / "Cityscapes", "--no-shuffle", "--num-workers", 0]
    sizes = ["--input-size-source", "64,32", "--input-size-target", "64,32", "--snapshot-dir", tmp_path / "run"]
    started = time.monotonic()
    result = launch(tmp_path, ROOT / "CLAN_train.py", *domains, *sizes)
    assert time.monotonic() - started < 60
    assert result.returncode == 2
    assert f"error: {damaged / 'RGB' / images[1].name}" in result.stdout
    assert "Traceback" not in result.stdout


def test_laws_of_ranks(tmp_path):
    result = launch(tmp_path, ROOT / "tests/core/ranks_script.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all laws hold" in result.stdout


def test_a_killed_rank_ends_the_others(tmp_path):
    started = time.monotonic()
    result = launch(tmp_path, ROOT / "tests/core/ranks_script.py", "die")
    assert time.monotonic() - started < 60
    assert result.returncode != 0


def two_machines(folder, *command, timeout="3"):
    """Two processes as launchers on two machines start them: nobody ends one when the other is gone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = own_environment() | {
            "PADDLE_MASTER": f"127.0.0.1:{port}",
            "PADDLE_TRAINER_ID": str(rank),
            "PADDLE_TRAINERS_NUM": "2",
            "PADDLE_TRAINER_ENDPOINTS": f"127.0.0.1:{port},127.0.0.1:{port + 1}",
            "PADDLE_CURRENT_ENDPOINT": f"127.0.0.1:{port + rank}",
            "CLAN_RANK_TIMEOUT": timeout,
        }
        log = (folder / f"rank{rank}.txt").open("w")
        arguments = [sys.executable, *map(str, command)]
        processes.append(subprocess.Popen(arguments, env=environment, stdout=log, stderr=subprocess.STDOUT))
    return processes


@pytest.mark.parametrize("dies", ["die", "die-first"])
def test_a_lost_rank_ends_the_others_on_two_machines_too(tmp_path, dies):
    """The one that waits at the store has no launcher to end it."""
    processes = two_machines(tmp_path, ROOT / "tests/core/ranks_script.py", dies)
    lost = 0 if dies == "die-first" else 1
    assert processes[lost].wait(60) == -9
    assert processes[1 - lost].wait(40) == 2, (tmp_path / f"rank{1 - lost}.txt").read_text()
    said = (tmp_path / f"rank{1 - lost}.txt").read_text()
    assert f"rank {lost} is lost" in said or "the connection to another rank is lost" in said
    assert "Traceback" not in said


def test_a_rank_that_computes_for_long_is_not_lost(tmp_path):
    processes = two_machines(tmp_path, ROOT / "tests/core/ranks_script.py", "slow", timeout="1")
    assert [process.wait(90) for process in processes] == [0, 0], (tmp_path / "rank0.txt").read_text()


@pytest.mark.parametrize("text", ["0", "soon", "inf", "nan"])
def test_a_timeout_is_a_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("CLAN_RANK_TIMEOUT", text)
    with pytest.raises(ConfigError, match=f"CLAN_RANK_TIMEOUT is '{text}'"):
        rank_timeout()


def test_memory_that_is_used_up_ends_training_with_a_sentence_and_its_last_state(tiny, error_of, monkeypatch):
    """And evaluation and prediction, each with its own remedy."""
    config = tiny()
    trainer = Trainer(config, notify=lambda sentence: None)

    def exhausted(pair, progress, backward):
        if progress.iteration == 3:
            raise MemoryError("(ResourceExhausted) Fail to alloc memory of 4000000000 size, error code is 12.")
        return step(pair, progress, backward)

    step, trainer.method.train_step = trainer.method.train_step, exhausted
    said = error_of(lambda arguments: trainer.run())
    assert "this machine's memory is used up (4.00 GB were wanted): lower --batch-size, --source.size" in said
    assert States(config.snapshot_dir).latest().iteration == 2
    weights = config.snapshot_dir / "SYS_2.pdparams"

    def forward(self, images, **options):
        raise RuntimeError("(ResourceExhausted) Out of memory error on GPU 0.")

    monkeypatch.setattr("clan.models.segmenter.Segmenter.forward", forward)
    common = ["--output", config.snapshot_dir / "there", "--input-size", 64, 32]
    assert "lower --input-size" in error_of(dispatch, "predict", config.target.root, "--weights", weights, *common)
    said = error_of(dispatch, "evaluate", weights, "--save", config.snapshot_dir / "maps", "--input-size", 64, 32)
    assert "lower --batch-size or --input-size" in said


def test_a_signal_to_the_launcher_stops_all_ranks_after_the_same_iteration(worlds, tmp_path):
    config = tiny_config(worlds, tmp_path / "run", num_steps=300, save_every=300)
    command = [*LAUNCHER, "--log_dir", tmp_path / "launcher", CLAN, "train"]
    command += ["--config", write(config, tmp_path / "config.yaml")]
    process = subprocess.Popen(list(map(str, command)), env=own_environment(), stdout=subprocess.PIPE, text=True)
    record = config.snapshot_dir / "metrics.jsonl"
    while process.poll() is None and not (record.exists() and record.read_bytes().count(b"\n") > 2):
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    state = States(config.snapshot_dir).latest()
    assert state.iteration == record.read_bytes().count(b"\n") < 300
    for rank in (0, 1):
        assert not (tmp_path / f"launcher/workerlog.{rank}").read_text().count("Traceback")
    said = (tmp_path / "launcher/workerlog.0").read_text()
    assert f"SIGTERM: stopped at iteration {state.iteration} of 300, all saved" in said
