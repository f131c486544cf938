"""A few labels of the target beside a method: what is read, what is learnt, and that runs stay what they are."""

import shutil

import numpy as np
import paddle
import pytest
from PIL import Image

from clan.core.errors import ConfigError, DataError
from clan.data.dataset import Dataset
from clan.methods import METHODS
from clan.run.checkpoint import States, changes
from clan.run.config import load, to_yaml
from clan.training.batches import build_few_sampler, to_device
from clan.training.looks import Looks
from clan.training.trainer import Trainer
from tests.conftest import metrics
from tests.training.test_trainer import assert_same_arrays, assert_same_run, train

pytestmark = pytest.mark.plain

LOSS = "loss_target_labels"


def names_of(config):
    return Dataset(config.target.dataset, config.target.root, split=config.target.split).names


@pytest.fixture
def listed(tiny, tmp_path):
    """Makes a configuration with a list of the first of the two target images, or of other lines.

    The target is the drawn one's split val, which has labels.
    """

    def make(*lines, **fields):
        fields = {"target__split": "val", **fields}
        names = names_of(tiny(**fields))
        path = tmp_path / "few.txt"
        path.write_text("".join(f"{line}\n" for line in lines or names[:1]))
        return tiny(**{"target_labels": path, **fields})

    return make


@pytest.mark.parametrize("method", [name for name in METHODS if name != "oracle"])
def test_every_method_learns_the_labels_of_the_list_alone(listed, monkeypatch, method):
    config = listed(method=method, num_steps=2, save_images=0)
    read = []
    monkeypatch.setattr(Dataset, "read_codes", spy(Dataset.read_codes, read))
    # How right pseudo-labels are is looked at after an iteration, and nothing learns of it (test_looks.py).
    monkeypatch.setattr(Looks, "compare", lambda *_: None)
    losses = [one[LOSS] for one in metrics(train(config).folder)]
    assert len(losses) == 2 and min(losses) > 0
    assert {name for dataset, name in read if dataset == "cityscapes"} == {build_few_sampler(config).dataset.names[0]}


def spy(original, read):
    def reading(self, index):
        read.append((self.name, self.names[index]))
        return original(self, index)

    return reading


def test_nothing_else_changes_where_their_loss_has_no_weight(listed, tiny, tmp_path):
    """Without batch statistics, which another batch would move, and dropout."""
    fields = {"network__batch_norm": "frozen", "save_images": 0}
    with_labels = train(listed(target_labels_weight=0.0, **fields))
    without = train(tiny(target__split="val", snapshot_dir=tmp_path / "without", **fields))
    rest = [{name: value for name, value in one.items() if name != LOSS} for one in metrics(with_labels.folder)]
    steady = [name for name in rest[0] if name.startswith("loss_")]
    expected = [[one[name] for name in steady] for one in metrics(without.folder)]
    assert [[one[name] for name in steady] for one in rest] == expected
    assert_same_arrays(*(States(one.folder).latest().arrays for one in (with_labels, without)))


def test_their_gradient_is_that_of_the_segmentation_loss(listed):
    trainer = Trainer(listed(), notify=lambda sentence: None)
    method, domain = trainer.method, to_device(trainer._loader().pair(0)).few
    found = []
    loss = method.learn_few(domain, 2.0, lambda loss: (found.append(float(loss)), loss.backward()))
    expected = 2.0 * float(method.supervise(method.logits(domain), domain.labels))
    assert found == [float(loss)] and float(loss) == pytest.approx(expected, rel=1e-4)
    assert any(float(paddle.abs(p.grad).max()) > 0 for p in method.segmenter.parameters() if p.grad is not None)


def test_they_come_as_often_as_asked_for(listed):
    config = listed(target_labels_every=2, iter_size=2, num_steps=6)
    trainer = train(config)
    assert [one[LOSS] > 0 for one in metrics(trainer.folder)] == [True, False, True, False, True, False]
    pairs = [trainer._loader().pair(number) for number in range(8)]
    assert [pair.few is not None for pair in pairs] == [True, True, False, False] * 2


def test_every_image_of_the_list_comes_once_an_epoch_whatever_the_interval(listed):
    names = names_of(listed())
    trainer = Trainer(listed(*names, target_labels_every=3), notify=lambda sentence: None)
    drawn = [trainer._loader().pair(number).few for number in range(6)]
    assert sorted(one.names[0] for one in drawn if one) == sorted(names)


def test_a_run_that_is_resumed_equals_one_that_was_not_interrupted(listed, tmp_path):
    whole = listed(target_labels_every=2, num_steps=4, save_every=1, snapshot_dir=tmp_path / "whole")
    parts = whole.model_copy(update={"snapshot_dir": tmp_path / "parts"})
    train(whole)
    train(parts.model_copy(update={"num_steps_stop": 3}))
    train(parts, resume=True)
    assert_same_run(whole, parts)


def test_the_configuration_keeps_them(listed, tmp_path):
    config = listed(target_labels_every=3, target_labels_weight=0.5)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert load(path) == config
    without = to_yaml(config.model_copy(update={"target_labels": None}))
    assert changes(without, to_yaml(config)).startswith("target_labels: None → ")


def test_labels_that_do_not_exist_are_refused(listed, tmp_path):
    config = listed()
    root = tmp_path / "city"
    shutil.copytree(config.target.root, root)
    sampler = build_few_sampler(config)
    label = root / sampler.dataset.label_path(0).relative_to(config.target.root)
    label.unlink()
    target = config.target.model_copy(update={"root": root})
    with pytest.raises(DataError, match=r"1 of the 1 images of --target-labels .* have no label, .* does not exist"):
        Trainer(config.model_copy(update={"target": target}), notify=lambda sentence: None)
    bare = target.dataset.model_copy(update={"labels": None, "name": "bare"})
    target = target.model_copy(update={"dataset": bare})
    with pytest.raises(DataError, match="description of bare has none"):
        build_few_sampler(config.model_copy(update={"target": target}))
    with pytest.raises(DataError, match=r"few\.txt"):
        build_few_sampler(listed("no_such_image"))
    with pytest.raises(ConfigError, match="leave --target-labels out"):
        build_few_sampler(listed(method="oracle"))


def test_labels_that_are_validated_on_are_refused(listed):
    config = listed(validate_every=2)
    name = build_few_sampler(config).dataset.names[0]
    with pytest.raises(ConfigError, match=rf"1 of the 1 images .* validated on too, first {name}: take them from"):
        Trainer(config, notify=lambda sentence: None)


def test_a_list_of_labels_that_teach_nothing_or_are_named_twice_is_told_of(listed, tmp_path):
    root = tmp_path / "city"
    shutil.copytree(listed().target.root, root)
    names = names_of(listed())
    config = listed(names[0], names[1], names[0], target__root=root)
    for index in range(2):
        path = build_few_sampler(config).dataset.label_path(index)
        Image.new("L", Image.open(path).size).save(path)
    said = []
    Trainer(config, notify=said.append)
    assert any("2 of them with labels" in sentence for sentence in said)
    assert any("1 images are listed more than once" in sentence for sentence in said)
    assert any("every pixel" in sentence and "--target-labels images of cityscapes" in sentence for sentence in said)


def test_a_label_that_cannot_be_read_is_a_bad_sample(listed, tmp_path):
    config = listed(tolerate_bad_samples=1, num_steps=2)
    root = tmp_path / "city"
    shutil.copytree(config.target.root, root)
    names = names_of(config)
    config = listed(*names[:2], tolerate_bad_samples=1, num_steps=4, target__root=root)
    build_few_sampler(config).dataset.label_path(0).write_bytes(b"no picture")
    trainer = train(config)
    assert [(one["domain"], one["name"]) for one in trainer.bad_samples.records] == [("few", names[0])]
    assert np.isfinite([one[LOSS] for one in metrics(trainer.folder)]).all()
