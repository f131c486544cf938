import pytest

import clan
from clan.run.observer import Everyone, Observer, Step


class Frail(Observer):
    """Fails at its second step, and when it is closed."""

    def __init__(self):
        self.steps = 0

    def step(self, step):
        self.steps += 1
        if self.steps == 2:
            raise RuntimeError("no\nconnection")

    def close(self):
        raise OSError("still none")


def test_an_observer_that_fails_is_left_out_with_one_warning(capsys):
    frail, sound = Frail(), Frail()
    sound.steps = 10
    everyone = Everyone([frail, sound])
    for iteration in range(4):
        everyone.step(Step(iteration, {}, {}, 1.0, 2, {}))
    assert (frail.steps, sound.steps) == (2, 14)
    assert capsys.readouterr().err == "warning: Frail failed and is left out from now on: no\\nconnection\n"


def test_what_ends_a_process_is_no_failure_of_an_observer():
    class Ended(Observer):
        def step(self, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Everyone([Ended()]).step(Step(0, {}, {}, 1.0, 2, {}))


class Noting(Observer):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def started(self, iteration, total):
        self.told.append(("started", iteration, total))

    def step(self, step):
        self.told.append(("step", step.iteration))

    def saved(self, iteration, snapshot, previews):
        assert snapshot.is_file()
        self.told.append(("saved", iteration))

    def close(self):
        self.told.append(("close",))


def test_callbacks_of_a_training_are_told_everything_and_may_fail(tiny, capsys):
    noting, frail = Noting(), Frail()
    snapshot = clan.train(tiny(), output="quiet", callbacks=[frail, noting])
    steps = [("step", iteration) for iteration in range(4)]
    assert noting.told == [("started", 0, 4), *steps[:2], ("saved", 2), *steps[2:], ("saved", 4), ("close",)]
    assert frail.steps == 2 and "Frail failed and is left out" in capsys.readouterr().err
    assert snapshot.is_file()
