import pytest

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
