"""Laws of the training loop, on drawn data and a small network: each run takes about a second."""

import shutil

import numpy as np
import paddle
import pytest
from PIL import Image

from clan.core.errors import CheckpointError, TrainingError
from clan.evaluation.label_maps import load_segmenter
from clan.methods import METHODS
from clan.models.options import NetworkConfig
from clan.models.weight_files import read_arrays
from clan.run.checkpoint import States
from clan.run.folder import find_snapshots
from clan.run.observer import Observer
from clan.training.trainer import Trainer
from tests.conftest import metrics

pytestmark = pytest.mark.plain


class Watch(Observer):
    """Calls a function after every iteration."""

    def __init__(self, on_step):
        self.step = on_step


def train(config, *, resume=False, on_step=lambda step: None):
    trainer = Trainer(config, resume=resume, notify=lambda sentence: None)
    trainer.run(Watch(on_step))
    return trainer


def assert_same_arrays(left, right):
    assert left.keys() == right.keys()
    different = [name for name in left if not np.array_equal(left[name], right[name])]
    assert not different


def assert_same_run(config, other):
    """Networks, optimizers, snapshots and records of two runs' folders are the same to the last bit."""
    left, right = config.snapshot_dir, other.snapshot_dir
    assert metrics(left) == metrics(right)
    assert (left / "loss.txt").read_text() == (right / "loss.txt").read_text()
    assert_same_arrays(States(left).latest().arrays, States(right).latest().arrays)
    snapshots = sorted(path.name for path in left.glob("*.pdparams"))
    assert snapshots == sorted(path.name for path in right.glob("*.pdparams"))
    for name in snapshots:
        assert_same_arrays(read_arrays(left / name), read_arrays(right / name))


class Killed(BaseException):
    """What ends a run without its say."""


@pytest.mark.parametrize("method", ["clan", "source-only", "adaptsegnet-multi", "mic"])
def test_a_run_that_is_resumed_equals_one_that_was_not_interrupted(tiny, tmp_path, method):
    whole = tiny(method=method)
    train(whole)

    def kill(step):
        if step.iteration == 2:
            raise Killed  # one iteration after the state was saved: its lines are in the logs already

    halves = tiny(method=method, snapshot_dir=tmp_path / "halves")
    with pytest.raises(Killed):
        train(halves, on_step=kill)
    assert len(metrics(halves.snapshot_dir)) == 3
    train(halves, resume=True)
    assert_same_run(whole, halves)


def test_stopping_early_and_going_on_equals_one_run(tiny, tmp_path):
    train(tiny(iter_size=2))
    parts = {"iter_size": 2, "snapshot_dir": tmp_path / "parts"}
    train(tiny(num_steps_stop=2, **parts))
    train(tiny(**parts), resume=True)
    assert_same_run(tiny(iter_size=2), tiny(**parts))


def test_resuming_a_finished_run_changes_nothing(tiny, tmp_path):
    finished = tiny()
    train(finished)
    again = tiny(snapshot_dir=tmp_path / "again")
    shutil.copytree(finished.snapshot_dir, again.snapshot_dir)
    train(again, resume=True)
    assert_same_run(finished, again)


def test_the_state_holds_every_parameter_and_moment(tiny):
    trainer = train(tiny())
    arrays = States(trainer.folder).latest().arrays
    parts = {name.split("/")[0] for name in arrays}
    assert parts == {"segmenter", "sgd", "discriminator", "adam.discriminator"}
    assert {f"segmenter/{name}" for name in trainer.method.segmenter.state_dict()} <= arrays.keys()
    trained = [name for name, p in trainer.method.segmenter.named_parameters() if not p.stop_gradient]
    assert {f"sgd/{name}" for name in trained} == {name for name in arrays if name.startswith("sgd/")}
    moments = {name.rsplit("/", 1)[1] for name in arrays if name.startswith("adam.")}
    assert len(moments) == 4, "two moments and two powers of β per parameter"


def test_workers_do_not_change_the_numbers(tiny, tmp_path):
    alone = tiny(shuffle=True)
    threads = tiny(shuffle=True, num_workers=4, snapshot_dir=tmp_path / "threads")
    train(alone)
    train(threads)
    assert_same_run(alone, threads)


def test_two_passes_of_one_image_equal_one_pass_of_two(tiny, tmp_path):
    """With batch norm's statistics out of the way, and no ignored pixels that would weigh the images."""
    common = {
        "network__batch_norm": "frozen",
        "augmentation__random_scale": False,
        "augmentation__random_mirror": False,
        "shuffle": False,
        "warmup_steps": 0,
        "num_steps_stop": 1,
        "optimizer__learning_rate": 0.01,
    }
    together = train(tiny(batch_size=2, **common))
    in_turn = train(tiny(iter_size=2, snapshot_dir=tmp_path / "in turn", **common))
    (one,), (other,) = metrics(together.folder), metrics(in_turn.folder)
    assert one == pytest.approx(other, rel=1e-5)
    left = States(together.folder).latest().arrays
    right = States(in_turn.folder).latest().arrays
    start = {name: tensor.numpy() for name, tensor in fresh(together.config).items()}
    for name in left:
        if name.startswith(("segmenter/", "sgd/")) or name.endswith("/moment1_0"):
            np.testing.assert_allclose(left[name], right[name], rtol=1e-5, atol=1e-5, err_msg=name)
    moved = [name for name in start if not np.array_equal(start[name], left[f"segmenter/{name}"])]
    assert "head1.conv2d_list.0.weight" in moved


def fresh(config):
    return Trainer(config, notify=lambda sentence: None).method.segmenter.state_dict()


@pytest.mark.parametrize("policy", ["official", "frozen", "per-domain"])
def test_running_statistics_stay_only_where_they_are_frozen(tiny, policy):
    config = tiny(network__batch_norm=policy, num_steps_stop=1)
    before = {
        name: tensor.numpy().copy() for name, tensor in fresh(config).items() if "_mean" in name or "_var" in name
    }
    after = train(config).method.segmenter.state_dict()
    stayed = [name for name in before if np.array_equal(before[name], after[name].numpy())]
    assert stayed == ([] if policy != "frozen" else list(before))


def test_each_domain_has_statistics_of_its_own_where_asked_for(tiny):
    """They are those of a run that sees only that domain, as long as the weights stay as they are."""
    common = {"num_steps_stop": 2, "optimizer__learning_rate": 0.0, "augmentation__random_scale": False}
    state = train(tiny(network__batch_norm="per-domain", **common)).method.segmenter.state_dict()
    alone = train(tiny(method="source-only", **common)).method.segmenter.state_dict()
    means = [name for name in alone if name.endswith("._mean")]
    for name in means:
        source, target = (state[name.replace("._mean", f"._{kind}mean")].numpy() for kind in ("source_", ""))
        np.testing.assert_array_equal(source, alone[name].numpy())
        assert not np.array_equal(target, source)


def test_statistics_of_each_domain_survive_resuming(tiny, tmp_path):
    whole = tiny(network__batch_norm="per-domain")
    train(whole)
    parts = {"network__batch_norm": "per-domain", "snapshot_dir": tmp_path / "parts"}
    train(tiny(num_steps_stop=2, **parts))
    train(tiny(**parts), resume=True)
    assert_same_run(whole, tiny(**parts))


def test_previews_are_colour_masks_at_the_target_size(tiny):
    config = tiny(save_images=2, target__size=(72, 40))
    train(config)
    previews = sorted((config.snapshot_dir / "images").iterdir())
    cities = [f"lindenau_{index:06d}_000000_leftImg8bit" for index in range(2)]
    assert [path.stem for path in previews] == [f"SYS_{i}_{city}" for i in (2, 4) for city in cities]
    for path in previews:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("P", (72, 40))


def test_no_previews_unless_asked_for(tiny):
    config = tiny(save_images=0)
    train(config)
    assert not (config.snapshot_dir / "images").exists()


def test_the_last_iteration_is_saved_whatever_the_interval(tiny):
    config = tiny(save_every=3)
    train(config)
    assert sorted(path.name for path in config.snapshot_dir.glob("SYS_*")) == [
        "SYS_3.pdparams",
        "SYS_3_D.pdparams",
        "SYS_4.pdparams",
        "SYS_4_D.pdparams",
    ]


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_state(tiny):
    config = tiny(num_steps_stop=2)
    train(config)
    state = States(config.snapshot_dir).paths()[0]
    content = state.read_bytes()
    trainer = Trainer(tiny(), resume=True, notify=lambda sentence: None)
    weight = next(iter(trainer.method.segmenter.head1.parameters()))
    weight.set_value(paddle.full_like(weight, float("nan")))
    with pytest.raises(TrainingError, match=r"loss_seg is nan at iteration 2 \(samples 000000\d\.png, lindenau/"):
        trainer.run()
    assert state.read_bytes() == content
    assert len(metrics(config.snapshot_dir)) == 2
    assert not (config.snapshot_dir / "SYS_3.pdparams").exists()


def test_a_seed_is_a_run(tiny, tmp_path):
    first, second = tiny(), tiny(snapshot_dir=tmp_path / "second")
    other = tiny(seed=5, num_steps_stop=1, snapshot_dir=tmp_path / "other")
    for config in (first, second, other):
        train(config)
    assert_same_run(first, second)
    assert metrics(other.snapshot_dir)[0] != metrics(first.snapshot_dir)[0]


@pytest.mark.parametrize("trained", [False, True])
def test_batch_norm_is_frozen_unless_it_is_trained_and_the_stem_s_always(tiny, trained):
    config = tiny(network__train_batch_norm_affine=trained, num_steps_stop=2)
    state = train(config).method.segmenter.state_dict()
    assert (state["backbone.bn1.weight"].numpy() == 1).all()
    assert (state["backbone.layer4.0.bn3.weight"].numpy() != 1).any() == trained
    assert (state["backbone.layer4.0.downsample.1.bias"].numpy() != 0).any() == trained


def test_a_new_run_in_an_old_folder_keeps_the_old_records_and_cannot_resume_the_old_state(tiny, tmp_path):
    config = tiny()
    train(config)
    old = (config.snapshot_dir / "metrics.jsonl").read_text()

    def kill(step):
        raise Killed

    with pytest.raises(Killed):
        train(config, on_step=kill)
    assert (tmp_path / f"{config.snapshot_dir.name}.before/metrics.jsonl").read_text() == old
    with pytest.raises(CheckpointError):
        train(config, resume=True)


def test_the_average_of_the_weights_is_saved_and_survives_resuming(tiny, tmp_path):
    options = {"optimizer__ema_decay": 0.3, "optimizer__learning_rate": 0.01}
    name, on_file, seen = "head1.conv2d_list.0.weight", "layer5.conv2d_list.0.weight", []
    config = tiny(**options)
    trainer = Trainer(config, notify=lambda sentence: None)
    average = trainer.method.segmenter.state_dict()[name].numpy().copy()
    trainer.run(Watch(lambda step: seen.append(trainer.method.segmenter.state_dict()[name].numpy().copy())))
    for iteration, weights in enumerate(seen):
        decay = min(0.3, (1 + iteration) / (10 + iteration))
        average = decay * average + (1 - decay) * weights
    saved = read_arrays(config.snapshot_dir / "SYS_4.pdparams")[on_file]
    np.testing.assert_allclose(saved, average, rtol=1e-5, atol=1e-7)
    assert not np.array_equal(saved, seen[-1])
    parts = {**options, "snapshot_dir": tmp_path / "parts"}
    train(tiny(num_steps_stop=2, **parts))
    train(tiny(**parts), resume=True)
    assert_same_run(config, tiny(**parts))


def test_saving_an_average_changes_nothing_in_training(tiny, tmp_path):
    plain, averaging = tiny(), tiny(optimizer__ema_decay=0.9, snapshot_dir=tmp_path / "averaging")
    train(plain)
    train(averaging)
    assert metrics(plain.snapshot_dir) == metrics(averaging.snapshot_dir)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("clan", "source-only")])
def test_every_method_trains_and_saves_what_evaluation_can_load(tiny, method):
    config = tiny(method=method, target__split="val")  # which has labels, for the oracle
    trainer = train(config)
    (name, snapshot) = trainer.snapshots.path(4).stem, find_snapshots(config.snapshot_dir)[-1].path
    assert snapshot.stem == name
    suffixes = {"adaptsegnet-multi": {"_D", "_D_aux"}, "adaptsegnet-single": {"_D"}, "advent": {"_D"}}.get(
        method, set()
    )
    saved = {path.stem.removeprefix(name) for path in config.snapshot_dir.glob(f"{name}*.pdparams")}
    assert saved == {"", *suffixes}
    load_segmenter(snapshot, NetworkConfig(backbone="resnet-tiny", num_classes=19))
