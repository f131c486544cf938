"""Pairs go to a device while the step before runs, with a fake for a device that has memory of its own."""

import paddle
import pytest

from clan.core.errors import DataError
from clan.training import batches, learner
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end


@pytest.fixture
def events(monkeypatch):
    """The pairs that were sent and the reading of losses, in order."""
    happened = []
    send, read = batches.Feed._send, learner.Learner._read
    monkeypatch.setattr(batches, "has_own_memory", lambda: True)

    def stage(self, array):
        self._staged.append(paddle.to_tensor(array))
        return self._staged[-1].clone()

    def sent(self, batch):
        happened.append(("sent", batch.number))
        return send(self, batch)

    def was_read(self, losses):
        happened.append("read")
        return read(self, losses)

    monkeypatch.setattr(batches.Feed, "_stage", stage)
    monkeypatch.setattr(batches.Feed, "_send", sent)
    monkeypatch.setattr(learner.Learner, "_read", was_read)
    return happened


def run(config, *, resume=False):
    trainer = Trainer(config, resume=resume, notify=lambda sentence: None)
    wait_for_pairs(trainer)
    trainer.run()
    return trainer


def wait_for_pairs(trainer):
    """Makes the pair that comes next always be there in time."""

    def upcoming():
        trainer.loader._pending[0][1].exception()
        return trainer.loader.next_if_read()

    trainer.feed.upcoming = upcoming


@pytest.mark.plain
@pytest.mark.parametrize("iter_size", [1, 2])
def test_the_next_pair_is_sent_before_the_losses_are_waited_for(tiny, events, iter_size):
    trainer = run(tiny(num_steps=3, num_workers=1, iter_size=iter_size, save_every=3))
    expected, number = [("sent", 0)], 1
    for _ in range(3):
        expected += [("sent", n) for n in range(number, number + iter_size)] + ["read"]
        number += iter_size
    assert events == expected
    assert len(trainer.feed._staged) == 3 * iter_size, "what is staged is kept for an iteration, and no longer"


@pytest.mark.plain
def test_sending_ahead_changes_nothing_and_resumes(tiny, events, tmp_path, monkeypatch):
    config = tiny(num_workers=1, snapshot_dir=tmp_path / "ahead")
    run(config.model_copy(update={"num_steps_stop": 2}))
    run(config, resume=True)
    assert events
    monkeypatch.setattr(batches, "has_own_memory", lambda: False)
    run(config.model_copy(update={"snapshot_dir": tmp_path / "then"}))
    assert_same_end(tmp_path / "ahead", tmp_path / "then")


def test_a_pair_that_cannot_be_read_or_is_not_there_is_not_sent_ahead(tiny):
    loader = Trainer(tiny(num_workers=1), notify=lambda sentence: None).loader
    assert loader.next_if_read() is None
    whole = loader.pair

    def pair(number):
        if number == 2:
            raise DataError("the third pair is damaged")
        return whole(number)

    loader.pair = pair
    pairs = iter(loader)
    assert next(pairs).number == 0
    loader._pending[0][1].exception()  # waits until it is read
    assert loader.next_if_read().number == next(pairs).number == 1
    assert isinstance(loader._pending[0][1].exception(), DataError)
    assert loader.next_if_read() is None
    with pytest.raises(DataError, match="third"):
        next(pairs)


def test_the_label_that_losses_ignore_is_no_class_of_a_crop(tiny):
    assert [sampler.ignore_label for sampler in batches.build_samplers(tiny(ignore_label=7))] == [7, 7]
