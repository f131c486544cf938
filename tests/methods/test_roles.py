"""Networks by role and draws in a step, by a small method of its own: a teacher, a frozen reference, dropout."""

import copy
import shutil

import numpy as np
import paddle
import pytest

from clan.core.errors import ConfigError
from clan.core.ranks import Ranks
from clan.evaluation.label_maps import load_segmenter
from clan.methods import METHODS
from clan.methods.base import STATISTICS, Role, assign, duplicate
from clan.models.options import NetworkConfig
from clan.models.segmenter import batch_norms
from clan.models.weight_files import read_arrays
from clan.models.weights import to_file_names
from clan.run.checkpoint import States
from clan.run.method_options import METHOD_OPTIONS
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end, metrics
from tests.examples.method import Consistency, ConsistencyOptions


class MimicOptions(ConsistencyOptions):
    """Options of a method that exists in tests alone."""

    name = "mimic"


class Mimic(Consistency):
    """The example with a frozen reference too, which notes what it draws."""

    options_type = MimicOptions

    def __init__(self, segmenter, config, class_weights=None):
        super().__init__(segmenter, config, class_weights)
        self.reference = self.add("reference", duplicate(segmenter.backbone), Role.REFERENCE)
        self.drawn = []

    def on_weights_loaded(self):
        super().on_weights_loaded()
        assign(self.reference, self.segmenter.backbone)

    def train_step(self, batch, progress, backward):
        losses = super().train_step(batch, progress, backward)
        self.drawn.append(float(batch.random.random()))
        with paddle.no_grad():
            return losses | {"size_features": self.reference(batch.target.images).square().mean()}


@pytest.fixture(autouse=True)
def mimic(monkeypatch):
    monkeypatch.setitem(METHOD_OPTIONS, "mimic", MimicOptions)
    monkeypatch.setitem(METHODS, "mimic", Mimic)


def train(config, *, resume=False):
    trainer = Trainer(config, resume=resume, notify=lambda sentence: None)
    trainer.run()
    return trainer


def test_a_run_with_draws_teacher_and_reference_resumes_bit_for_bit(tiny, tmp_path):
    whole, halves = (
        tiny(method="mimic", iter_size=2),
        {"method": "mimic", "iter_size": 2, "snapshot_dir": tmp_path / "h"},
    )
    train(whole)
    train(tiny(num_steps_stop=2, **halves))
    train(tiny(**halves), resume=True)
    assert_same_end(whole.snapshot_dir, tiny(**halves).snapshot_dir)
    parts = {name.split("/")[0] for name in States(whole.snapshot_dir).latest().arrays}
    assert parts == {"segmenter", "teacher", "reference", "sgd"}


def test_each_network_does_in_training_what_its_role_says(tiny):
    trainer = Trainer(tiny(method="mimic", num_steps_stop=2), notify=lambda sentence: None)
    method = trainer.method
    before = {name: copy.deepcopy(one.layer.state_dict()) for name, one in method.networks.items()}
    assert all(norm.training for norm in batch_norms(method.teacher)) and not method.teacher.training
    assert not any(layer.training for layer in method.reference.sublayers(include_self=True))
    trainer.run()

    def moved(name):
        after = method.networks[name].layer.state_dict()
        return {key for key in after if not np.array_equal(after[key].numpy(), before[name][key].numpy())}

    assert moved("reference") == set()
    statistics = {key for key in before["teacher"] if key.endswith(STATISTICS)}
    assert moved("segmenter") == moved("teacher") > statistics
    key = "head1.conv2d_list.0.weight"
    # The first rate is 0, so that two thirds are the initial weights.
    expected = (2 * before["teacher"][key] + method.segmenter.state_dict()[key]).numpy() / 3
    np.testing.assert_allclose(method.teacher.state_dict()[key].numpy(), expected, atol=1e-7)
    assert not any(name.startswith(("teacher", "reference")) for name in trainer.learner.gradients())
    assert len(trainer.learner.running_statistics()) == 2 * len(statistics), "both are averaged over ranks"


def test_the_teacher_is_what_is_saved_and_used(tiny):
    trainer = train(tiny(method="mimic"))
    path = trainer.snapshots.path(4)
    saved, teacher = read_arrays(path), to_file_names(trainer.method.teacher.state_dict())
    assert saved.keys() == teacher.keys()
    assert all(np.array_equal(saved[name], teacher[name].numpy()) for name in saved)
    load_segmenter(path, NetworkConfig(backbone="resnet-tiny", num_classes=19))
    with pytest.raises(ConfigError, match="ema_decay"):
        Trainer(tiny(method="mimic", optimizer__ema_decay=0.9), notify=lambda sentence: None)


def test_a_frozen_run_freezes_the_teachers_statistics_too(tiny):
    method = Trainer(tiny(method="mimic", network__batch_norm="frozen"), notify=lambda sentence: None).method
    assert not any(norm.training for one in (method.teacher, method.segmenter) for norm in batch_norms(one))


def rank_draws(config, rank, size, monkeypatch, folder):
    """What a rank would draw in the first iterations; the ranks' exchange is left out."""
    monkeypatch.setattr("clan.training.trainer.connect", lambda: Ranks(rank, size))
    for name in ("_agree", "average"):
        monkeypatch.setattr(Ranks, name, lambda self, given, tensors=(): given)
    monkeypatch.setattr(Ranks, "from_first", lambda self, make: make())
    shutil.rmtree(folder, ignore_errors=True)
    return train(config.model_copy(update={"snapshot_dir": folder})).method.drawn


def test_draws_follow_the_number_of_the_pass_over_all_ranks(tiny, tmp_path, monkeypatch):
    """Ranks draw differently, the same again, and together what one process draws in as many passes."""
    one = train(tiny(method="mimic", iter_size=2)).method.drawn
    two = tiny(method="mimic")
    first, second, again = (rank_draws(two, rank, 2, monkeypatch, tmp_path / "rank") for rank in (0, 1, 1))
    assert second == again != first
    assert [draw for pair in zip(first, second, strict=True) for draw in pair] == one
    assert len(set(one)) > 4


def test_what_paddle_draws_follows_the_pass_too(tiny, tmp_path):
    """Whatever was drawn before, and in another process."""
    config, other = tiny(method="mimic", num_steps_stop=1), tiny(method="mimic", snapshot_dir=tmp_path / "other")
    train(config)
    trainer = Trainer(other, notify=lambda sentence: None)
    paddle.seed(99)
    paddle.rand([5])
    trainer.run()
    assert metrics(config.snapshot_dir)[0] == metrics(other.snapshot_dir)[0]
