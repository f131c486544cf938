"""Extrapolation of measured steps: what grows with pixels, what does not, and what a measuring process tells."""

import json
import shutil
import sys
import tempfile

import numpy as np
import pytest

from clan.core.errors import DeviceError
from clan.run import presets
from clan.training import plan
from clan.training.plan import Estimate, Speed, free_space
from clan.training.probe import (
    Probe,
    image_scales,
    look_at_data,
    pixels,
    predictions_of_judge,
    scaled_config,
    sizes_to_measure,
)

FACTS = {
    "device": "cpu",
    "cores": 2,
    "bf16": False,
    "attends": False,
    "parameters": 10,
    "disk_bytes": 1000,
    "images": {"source": "it is not there", "target": 20},
    "reading": None,
    "validated": None,
    "judged": 0.0,
}


def measured(config, memory, seconds, sides=(0.25, 0.5)):
    """What a machine would be measured to take whose memory and time are functions of pixels."""
    sizes = []
    for side in sides:
        small = scaled_config(config, side)
        most, usual = (pixels(small, scale) for scale in image_scales(small))
        sizes.append(
            {"side": side, "batch_size": config.batch_size, "pixels": usual, "most_pixels": most, "image": 0.0}
            | {"peak": {"host": memory(most)}, "saving": {"host": 5e8}}
            | {"pass": [seconds(usual), 2 * seconds(usual)], "update": [0.5, 1.0]}
        )
    return tuple(sizes)


def test_what_grows_linearly_is_predicted_exactly():
    config = presets.official().model_copy(update={"num_workers": 0, "iter_size": 3})
    found = Estimate(config, FACTS, measured(config, lambda p: 1e9 + 700 * p, lambda p: 0.1 + 3e-6 * p))
    whole = (1280 * 760 + 1024 * 512) * 1.1**2
    waiting = whole * 13
    assert found.memory() == pytest.approx(1e9 + 700 * whole + waiting)
    usual = (1280 * 760 + 1024 * 512) * (0.3 * 0.64 + 0.4 + 0.3 * 1.21)
    assert found.seconds() == pytest.approx(3 * (0.1 + 3e-6 * usual) + 0.5)
    assert found.seconds(1) == pytest.approx(6 * (0.1 + 3e-6 * usual) + 1.0)
    assert found.hours() == pytest.approx(found.seconds() * 100_000 / 3600)
    assert found.memory(share=0.5) == pytest.approx(1e9 + 350 * whole + waiting / 2)


def test_attention_grows_with_the_square():
    config = presets.vfm().model_copy(update={"num_workers": 0})
    sizes = measured(config, lambda p: 1e9 + 10 * p + 1e-4 * p * p, lambda p: 1e-6 * p, sides=(0.25, 0.375, 0.5))
    whole = 2 * 2 * 1024 * 1024
    assert Estimate(config, FACTS, sizes).memory() == pytest.approx(1e9 + 23 * whole + 1e-4 * whole**2)


def test_saving_may_be_the_peak():
    config = presets.official().model_copy(update={"num_workers": 0})
    sizes = measured(config, lambda p: 1e6, lambda p: 1.0)
    assert Estimate(config, FACTS, sizes).memory() == pytest.approx(5e8, rel=0.1)


def test_reading_samples_takes_time_of_the_cores_that_compute():
    config = presets.official()
    sizes = measured(config, lambda p: 1e9, lambda p: 1.0)
    without, with_data = (Estimate(config, FACTS | {"reading": one}, sizes) for one in (None, [9.0, 0.4]))
    assert with_data.seconds() - without.seconds() == pytest.approx(0.2)
    assert with_data.seconds(1) - without.seconds(1) == pytest.approx(0.4)


def test_a_named_speed_replaces_the_measured_one():
    config = presets.vfm()
    assert Estimate(config, FACTS, speed=Speed(images_per_second=4)).seconds() == 4.0
    named = Estimate(config, FACTS, speed=Speed(step_seconds=0.9))
    assert named.hours() == pytest.approx(10.0)
    assert named.memory() is None
    assert Estimate(config, FACTS).hours() is None


def test_epochs_are_of_the_images_on_the_disk_or_of_the_published_ones(tmp_path):
    found = Estimate(presets.dacs(), FACTS)
    assert found.epochs("target") == 250_000 * 2 / 20
    assert found.epochs("source") == 250_000 * 2 / 9400
    assert json.loads(json.dumps(found.record()))["counted"] == {"source": False, "target": True}
    for other in ({"root": tmp_path}, {"list_file": tmp_path / "list.txt"}, {"split": "val"}):
        source = found.config.source.model_copy(update=other)
        config = found.config.model_copy(update={"source": source})
        assert Estimate(config, FACTS).epochs("source") is None, "it says why instead"


def test_what_is_predicted_while_training_is_among_the_hours():
    config = presets.official().model_copy(update={"validate_every": 40_000, "save_every": 30_000})
    sizes = tuple(size | {"image": 0.5} for size in measured(config, lambda p: 1e9, lambda p: 1.0))
    without = Estimate(config, FACTS, sizes)
    found = Estimate(config, FACTS | {"validated": 500, "judged": 300.5}, sizes)
    a_prediction = 0.5 * 2**2  # measured at half of the sides
    expected = (3 * 500 + 4 * 300.5) * a_prediction
    assert (found.hours() - without.hours()) * 3600 == pytest.approx(expected)


@pytest.mark.parametrize(("select", "teacher", "count"), [(False, 0, 0), (True, 0, 3 * 4.5625), (True, 1, 3 * 5.5625)])
def test_a_snapshot_is_judged_by_predictions_of_both_domains(tiny, select, teacher, count):
    """Three target images, each in three views and one of 3/4 of the sides, and three source images."""
    assert predictions_of_judge(tiny(select_without_labels=select), teacher=bool(teacher)) == pytest.approx(count)


def test_iterations_without_a_batch_of_few_labels_are_timed_too(tiny, tmp_path, monkeypatch):
    def seconds(self, config, *_):
        each = 3.0 if self._pair(config, 1.0, 0).few else 1.0
        return np.array([each, 2 * each]), np.array([0.5, 1.0])

    monkeypatch.setattr(Probe, "_step", seconds)
    few = {"target_labels": tmp_path / "few.txt"}
    for options, expected in (({}, 1.0), (few, 3.0), (few | {"target_labels_every": 4}, 1.5)):
        config = tiny(**options)
        found = Probe(config)._time(config, 1.0)
        assert found == {"pass": [expected, 2 * expected], "update": [0.5, 1.0]}


def test_free_space_is_that_of_the_nearest_folder_that_can_be_looked_at(tmp_path):
    for folder in ("absent/run", "x" * 300):
        assert free_space(tmp_path / folder) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def test_without_a_temporary_folder_it_is_a_sentence(tiny, monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", nowhere)
    with pytest.raises(DeviceError, match=r"No usable temporary directory .* TMPDIR"):
        plan.estimate(tiny())


@pytest.mark.parametrize("preset", [presets.official, presets.vfm, presets.dacs])
def test_a_small_part_is_measured_whose_options_suit_it(preset):
    config = preset()
    sizes = sizes_to_measure(config, preset is presets.vfm, "cpu")
    assert len(sizes) == (3 if preset is presets.vfm else 2)
    taken = []
    for side, batch_size in sizes:
        small = scaled_config(config, side).model_copy(update={"batch_size": batch_size})
        taken.append(pixels(small, image_scales(small)[0]))
        assert small.network == config.network
    assert taken == sorted(taken) and taken[0] < 0.6 * taken[-1] < 2**18


def test_what_is_small_is_measured_as_it_is(tiny):
    assert sizes_to_measure(tiny(), False, "cpu")[-1] == (1.0, 1)
    assert scaled_config(tiny(), 1.0) == tiny()


@pytest.mark.parametrize("sampling", ["uniform", "rare-class"])
def test_data_on_the_disk_are_counted_and_read_however_they_are_sampled(tiny, sampling):
    domains = {"source__sampling": sampling, "target__sampling": sampling, "target__split": "val"}
    found = look_at_data(tiny(method="oracle", **domains))
    assert found["images"] == {"source": 3, "target": 2} and min(found["reading"]) > 0


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed after 0 sizes"),
        ('print(\'{"error": "the memory of cpu is used up"}\', flush=True); input()', "memory of cpu is used up"),
        ("raise RuntimeError('no such thing')", "no such thing"),
    ],
)
def test_a_measuring_process_that_fails_is_a_sentence(tiny, monkeypatch, program, sentence):
    popen = plan.subprocess.Popen

    def other(command, **options):
        return popen([sys.executable, "-c", program], **options)

    monkeypatch.setattr(plan.subprocess, "Popen", other)
    with pytest.raises(DeviceError, match=sentence):
        plan.estimate(tiny())


def test_steps_of_a_tiny_run_are_measured_in_a_process_of_its_own(tiny):
    notes = []
    found = plan.estimate(tiny(validate_every=2), notify=notes.append)
    assert [one.partition(" on ")[0] for one in notes] == [
        "measuring steps of 1 × 32×32",
        "measuring steps of 1 × 64×32",
    ]
    assert found.facts["images"] == {"source": 3, "target": 3} and found.facts["validated"] == 2
    record = found.record()
    assert 2e8 < record["peak_memory_bytes"]["host"] < 4e9
    assert 0 < record["step_processor_seconds"] < 60 and record["hours"] > 0
    assert record["epochs"] == {"source": pytest.approx(4 / 3), "target": pytest.approx(4 / 3)}
    assert np.isfinite([size["image"] for size in found.sizes]).all()
