"""The driver of the adaptation benchmarks: what it asks of `clan`, what it keeps, and what it must never look at."""

import json
import sys

import pytest

from clan.run.observer import Validation
from tests.pages import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """The driver, its records in a temporary folder, and every `clan` command that it would run, not run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import adaptation

    commands = []

    def clan(run, cores, *arguments):
        commands.append(arguments)
        if arguments[0] == "train":
            run.weights.touch()
            lines = [{"iteration": k, "loss_seg": 20.0 - k, "seconds": 1.5} for k in range(20)]
            (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            scores = [Validation(k, "camvid val, 2 images", "mIoU", {"mIoU": k / 40}, {}).record() for k in (10, 20)]
            (run.folder / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores))

    monkeypatch.setattr(adaptation, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(adaptation, "clan", clan)
    monkeypatch.setattr(adaptation, "scores_on", lambda run, split: {"mIoU": 0.5, "IoU": {"road": 0.5}})
    monkeypatch.setattr(adaptation, "commands", commands, raising=False)
    yield adaptation
    for name in ("adaptation", "adaptation_experiments", "adaptation_report", "common"):
        sys.modules.pop(name, None)


def make_run(driver, scratch, purpose="val"):
    return driver.Run("rendered_to_camvid", "clan", 3, purpose, scratch)


def splits_evaluated(driver):
    return {command[command.index("--split") + 1] for command in driver.commands if command[0] == "evaluate"}


def test_a_tuning_run_never_sees_the_test_split(driver, tmp_path):
    assert driver.run_all([make_run(driver, tmp_path)]) == 0
    assert splits_evaluated(driver) == {"val"}
    assert set(make_run(driver, tmp_path).record()["scores"]) == {"val"}


def test_a_finished_run_is_not_repeated_until_what_it_depends_on_changes(driver, tmp_path, monkeypatch):
    run = make_run(driver, tmp_path, "test")
    driver.run_all([run])
    assert splits_evaluated(driver) == {"val", "test"}
    record = run.record()
    assert record["seconds"]["train"] == 30.0
    assert record["course"] == {"10": 0.25, "20": 0.5}
    assert record["losses"]["loss_seg"] == [19.5, 17.5, 15.5, 13.5, 11.5, 9.5, 7.5, 5.5, 3.5, 1.5]
    count = len(driver.commands)
    assert "--resume" not in driver.commands[0]
    driver.run_all([run])
    assert len(driver.commands) == count
    monkeypatch.setitem(driver.FINAL, "clan", {"method": "clan", "loss.epsilon": 0.5})
    assert run.record() is None
    driver.run_all([run])
    assert len(driver.commands) > count


def test_a_killed_run_goes_on_from_its_state(driver, tmp_path):
    run = make_run(driver, tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "state.safetensors").touch()
    driver.run_all([run])
    assert "--resume" in driver.commands[0]


def test_a_failed_run_does_not_keep_the_others_from_running(driver, tmp_path, monkeypatch):
    done = driver.clan

    def fails_once(run, *arguments):
        if run.seed == 3:
            raise driver.subprocess.CalledProcessError(2, "clan")
        done(run, *arguments)

    monkeypatch.setattr(driver, "clan", fails_once)
    runs = [driver.Run("rendered_to_camvid", "clan", seed, "val", tmp_path) for seed in (3, 4)]
    assert driver.run_all(runs) == 1
    assert [run.record() is None for run in runs] == [True, False]


def test_the_gap_closed_is_0_for_source_only_and_1_for_the_oracle(driver):
    def group(*values):
        return [{"scores": {"test": {"mIoU": value}}} for value in values]

    groups = {"source-only": group(0.2, 0.3), "clan": group(0.3, 0.4), "oracle": group(0.5, 0.6)}
    closed = [driver.adaptation_report.gap_closed(groups, name) for name in groups]
    assert closed == ["0 %", "33 %", "100 %"]


@pytest.mark.usefixtures("shared")
def test_clan_train_takes_the_flags_of_every_experiment(driver, monkeypatch):
    from clan.cli import main as cli

    configs = []
    monkeypatch.chdir(BENCHMARKS.parent)
    monkeypatch.setattr("clan.training.run.train", lambda config, **options: configs.append(config))
    for pair, experiment in [
        *((pair, "clan") for pair in driver.PAIRS),
        *(("rendered_to_camvid", n) for n in {**driver.FINAL, **driver.TUNING}),
    ]:
        cli.train_command(driver.as_arguments({**driver.flags_of(pair, experiment), "seed": 7}))
        assert configs[-1].seed == 7
        assert configs[-1].source.size == driver.flags_of(pair, experiment)["source.size"]
        assert not configs[-1].optimizer.repeated_updates
    assert [config.network.num_classes for config in configs[:2]] == [10, 7]
