"""A state under other options: a run goes on and says what starts anew, or is refused in a sentence."""

import shutil

import numpy as np
import pytest

from clan.core.errors import CheckpointError
from clan.run.checkpoint import States
from clan.training.trainer import Trainer
from tests.conftest import metrics, tiny_config

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def runs(worlds, tmp_path_factory):
    """Copies a run that stopped after two steps of four; runs are made once."""
    folder = tmp_path_factory.mktemp("runs")

    def copy(to, **fields):
        of = folder / repr(fields).encode().hex()[:100]
        if not of.exists():
            Trainer(tiny_config(worlds, of, num_steps_stop=2, **fields), notify=lambda sentence: None).run()
        shutil.copytree(of, to)

    return copy


ADAMW = {"optimizer__algorithm": "adamw"}
CHANGES = [
    ({}, {}, []),
    ({}, {"precision": "fp16"}, ["the loss scale"]),
    ({"precision": "fp16"}, {}, []),
    ({}, {"optimizer__ema_decay": 0.9}, ["the average of weights"]),
    ({"optimizer__ema_decay": 0.9}, {}, []),
    ({}, ADAMW, ["the optimizer of the segmenter"]),
    (ADAMW, {}, ["the optimizer of the segmenter"]),
    ({}, {"optimizer__discriminator_algorithm": "sgd"}, ["the optimizer of the discriminator"]),
    ({"network__batch_norm": "per-domain"}, {}, []),
    ({}, {"network__batch_norm": "frozen"}, []),
    ({}, {"network__train_batch_norm_affine": True}, []),
    ({}, {"method": "source-only"}, []),
    ({"method": "mic"}, {"method": "source-only"}, []),
]


@pytest.mark.parametrize(("before", "after", "anew"), CHANGES)
def test_a_run_goes_on_under_other_options_and_says_what_starts_anew(tiny, tmp_path, runs, before, after, anew):
    runs(tmp_path / "run", **before)
    state = States(tmp_path / "run").latest().arrays
    config, said = tiny(**after), []
    trainer = Trainer(config, resume=True, accept_changes=True, notify=said.append)
    assert [one for one in said if "anew" in one] == [f"{one} starts anew, since the state has none" for one in anew]
    for name, average in trainer.learner.average.items():
        np.testing.assert_array_equal(average.numpy(), state[f"segmenter/{name}"])
    trainer.run()
    assert len(metrics(tmp_path / "run")) == 4
    kept = {name.partition("/")[0] for name in States(tmp_path / "run").latest().arrays}
    assert ("average" in kept) is bool(config.optimizer.ema_decay)
    assert ("loss_scale" in kept) is (config.precision == "fp16")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({}, {"network__batch_norm": "per-domain"}, "lacks segmenter/"),
        ({"method": "source-only"}, {}, "lacks discriminator/"),
        ({}, {"method": "mic"}, "lacks teacher/"),
        ({}, {"network__discriminator_width": 4}, "has discriminator/.* in another shape"),
    ],
)
def test_a_network_that_the_state_does_not_have_is_refused(tiny, tmp_path, runs, before, after, reason):
    runs(tmp_path / "run", **before)
    config = (tmp_path / "run/config.yaml").read_bytes()
    with pytest.raises(CheckpointError, match=f"the state {reason}.*; give its options, or start afresh"):
        Trainer(tiny(**after), resume=True, accept_changes=True, notify=lambda sentence: None)
    assert (tmp_path / "run/config.yaml").read_bytes() == config
