"""What makes a run fit, on a machine whose memory and time are known functions of the configuration."""

from functools import partial

import pytest

from clan.core.errors import DeviceError
from clan.run import presets
from clan.training.fitting import Limits, changed, flags_of, proposals
from clan.training.plan import Estimate
from tests.training.test_plan import FACTS, measured


def predict(config, *, bf16=True):
    """A machine on which bf16 takes half of the memory, and output stride 16 half of memory and time."""
    factor = (0.5 if config.precision == "bf16" else 1.0) * (0.5 if config.network.output_stride == 16 else 1.0)
    speed = 0.5 if config.network.output_stride == 16 else 1.0
    sizes = measured(config, lambda p: 1e9 + 4000 * factor * p, lambda p: 1e-6 * speed * p)
    return Estimate(config, FACTS | {"bf16": bf16}, sizes)


def test_what_is_not_known_does_not_fit():
    unknown = Estimate(official(), FACTS)
    assert Limits().hold(unknown)
    assert not Limits(memory=1e15).hold(unknown) and not Limits(hours=1e9).hold(unknown)


def official(**fields):
    return presets.official().model_copy(update={"num_workers": 0, **fields})


def test_each_change_is_predicted_by_itself():
    first = predict(official(batch_size=2))
    assert first.memory() > 10e9
    found = {one.flags: one for one in proposals(first, Limits(memory=9e9), predict)}
    crop = next(flags for flags in found if "crop-size" in flags)
    alone = ["--batch-size 1 --iter-size 2", "--precision bf16", "--network.output-stride 16"]
    assert list(found) == [*alone, crop]
    assert all(one.fits(Limits(memory=9e9)) for one in found.values())
    assert "--augmentation.scale-labels" in crop, "which crops need"
    assert "816 408" in crop, "the largest that images scaled down still have"


def test_the_crop_is_the_largest_that_fits():
    made = [one for one in proposals(predict(official()), Limits(memory=3e9), predict) if "crop" in one.flags]
    assert 0.85 * 3e9 < made[0].estimate.memory() < 3e9


def test_changes_are_put_together_where_none_is_enough():
    found = list(proposals(predict(official(batch_size=2)), Limits(memory=1.08e9), predict))
    assert found[-2].flags == "--batch-size 1 --iter-size 2 --precision bf16 --network.output-stride 16"
    assert found[-1].flags.startswith(f"{found[-2].flags} --augmentation.crop-size ")
    assert found[-1].fits(Limits(memory=1.08e9))


def test_nothing_is_proposed_that_changes_nothing():
    config = official(precision="bf16", network=presets.vfm().network)
    found = list(proposals(predict(config), Limits(memory=9e8), partial(predict, bf16=False)))
    assert [one.flags for one in found] == ["--network.output-stride 16"] or not found


def test_a_change_that_cannot_be_measured_says_why():
    def failing(config):
        raise DeviceError("the memory of cpu is used up")

    found = next(proposals(predict(official()), Limits(memory=1e9), failing))
    assert (found.estimate, found.trouble) == (None, "the memory of cpu is used up")
    assert not found.fits(Limits())


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 1, "iter_size": 4},
        {"augmentation.crop_size": (256, 128), "augmentation.scale_labels": True},
        {"network.output_stride": 16, "precision": "bf16"},
    ],
)
def test_flags_mean_what_was_predicted(monkeypatch, change):
    from clan.cli import main as cli

    configs = []
    monkeypatch.setattr("clan.training.run.train", lambda config, **options: configs.append(config))
    cli.dispatch(["train", *flags_of(change).split()])
    assert configs == [changed(presets.official(), change)]
