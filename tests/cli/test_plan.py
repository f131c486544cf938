"""`clan plan` as typed: what it prints, as text and as JSON, and what it refuses."""

import json

import pytest

from clan.cli import main as cli
from clan.cli.plan import memory_size
from clan.core.errors import DeviceError
from clan.run.config import to_yaml
from clan.run.method_options import METHOD_OPTIONS
from clan.run.presets import PRESETS
from clan.training import plan
from clan.training.plan import Estimate
from tests.training.test_fitting import predict
from tests.training.test_plan import FACTS


@pytest.fixture
def planned(monkeypatch, capsys):
    """Runs `clan plan` on a machine that is a function, and returns what it prints.

    `planned.asked` has an entry for each configuration, whether it was measured; `planned.facts` are other facts.
    """
    asked, facts = [], {}

    def estimate(config, *, measured=True, speed, notify):
        found = predict(config)
        asked.append(measured)
        return Estimate(config, found.facts | facts, found.sizes if measured else (), speed)

    monkeypatch.setattr("clan.training.plan.estimate", estimate)

    def call(*words):
        asked.clear()
        cli.dispatch(["plan", *words])
        return capsys.readouterr().out

    call.asked, call.facts = asked, facts
    return call


def test_a_plan_is_printed(planned):
    shown = planned("--preset", "official", "--source", "gta5")
    for part in ("100,000", "4.0 epochs of 24,966 published images", "5,000.0 epochs of 20 images", "GB of this"):
        assert part in shown


def test_a_plan_as_json_has_the_changes_that_make_it_fit(planned):
    record = json.loads(planned("--memory", "7GB", "--json"))
    assert record["fits"] is False
    assert {one["flags"]: one["fits"] for one in record["changes"]}["--precision bf16"] is True
    assert record["steps"] == 100_000 and record["peak_memory_bytes"]["host"] > 7e9
    assert json.loads(planned("--memory", "700GB", "--hours", "1000", "--json"))["fits"] is True


def test_where_nothing_fits_it_says_so(planned):
    assert "none of these fits" in planned("--memory", "100MB")
    planned.facts["bf16"] = False
    assert "there is no change to try" in planned("--memory", "100MB", "--network.output-stride", "16")


def test_no_change_is_tried_at_a_named_speed_and_none_is_measured_unasked(planned):
    words = ["--step-seconds", "10", "--hours", "1"]
    assert "no change can be judged at a named speed" in planned(*words, "--no-measure")
    assert planned.asked == [False]
    record = json.loads(planned(*words, "--memory", "700GB", "--json"))
    assert (record["fits"], record["changes"]) == (False, []) and "--num-steps-stop" in record["trouble"]
    assert json.loads(planned(*words, "--memory", "7GB", "--json"))["changes"], "which may still need less memory"


def test_an_unknown_peak_memory_does_not_fit(planned, monkeypatch):
    monkeypatch.setattr(Estimate, "memory", lambda *_, **options: None)
    assert "not known whether it fits" in planned("--memory", "700GB")
    assert json.loads(planned("--memory", "700GB", "--json"))["fits"] is False


def test_json_of_domains_of_one_s_own_is_one_document(planned, worlds, tmp_path):
    """The source lacks all classes but one, which is said elsewhere."""
    path = tmp_path / "mine.yaml"
    images = worlds / "SYNTHIA/RAND_CITYSCAPES"
    path.write_text(
        f"name: mine\nroot: {images}\nimages: RGB/{{name}}.png\nlabels: GT/LABELS/{{name}}.png\n"
        "encoding: ids\nclasses: {road: 3}\nignore: rest\n"
    )
    words = ["--source", str(path), "--target", "cityscapes", "--classes", "cityscapes", "--json"]
    assert json.loads(planned(*words))["images"]["target"] == 20


def test_a_preset_that_cannot_be_measured_does_not_cost_the_others(planned, monkeypatch, error_of):
    estimate, broken = plan.estimate, {"vfm"}

    def failing(config, **options):
        if config.method.name in broken:
            raise DeviceError("the memory of cpu is used up")
        return estimate(config, **options)

    monkeypatch.setattr(plan, "estimate", failing)
    found = {(one["preset"], one["source"]): one for one in json.loads(planned("--presets", "--json"))}
    assert len(found) == 2 * len(PRESETS) and found["vfm", "gta5"]["trouble"] == "the memory of cpu is used up"
    assert [key for key, one in found.items() if one["trouble"]] == [("vfm", "synthia"), ("vfm", "gta5")]
    assert found["mic", "gta5"]["steps"] > 0
    broken.update(METHOD_OPTIONS)
    assert "the memory of cpu is used up" in error_of(cli.dispatch, "plan", "--presets", "--json")


def test_the_presets_take_the_hours_that_a_named_speed_gives(planned):
    found = json.loads(planned("--presets", "--images-per-second", "2", "--json"))
    assert [(one["preset"], one["source"]) for one in found] == [(n, s) for n in PRESETS for s in ("synthia", "gta5")]
    hours = {one["preset"]: one["hours"] for one in found}
    assert hours["official"] == pytest.approx(100_000 / 3600) and hours["dacs"] == pytest.approx(500_000 / 3600)
    assert found[0]["peak_memory_bytes"] == {"host": None}
    assert planned("--presets", "--step-seconds", "1").count("\n") == 1 + 2 * len(PRESETS)


def test_a_configuration_is_planned_from_its_file(planned, tmp_path, tiny):
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(tiny(num_steps=7)))
    assert json.loads(planned("--config", str(path), "--num-steps-stop", "5", "--json"))["steps"] == 5


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--memory", "much"], "no size of a memory"),
        (["--hours", "-1"], "above 0"),
        (["--step-seconds", "1e308"], "up to 1e9"),
        (["--images-per-second", "1e-320"], "above 0"),
        (["--no-measure", "--memory", "8GB"], "leave --no-measure out"),
        (["--presets", "--hours", "3"], "leave --hours out"),
        (["--presets", "--json", "--network.output-stride=16"], "leave --network.output-stride out"),
        (["--presets", "--preset", "official"], "leave --preset out"),
        (["--images-per-second", "3", "--step-seconds", "3"], "not allowed with"),
        (["--batch-sise", "3"], "--batch-size"),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(error_of, words, part):
    assert part in error_of(cli.dispatch, "plan", *words)


def test_sizes_of_memory():
    assert [memory_size(text) for text in ("8", "8GB", "8 gib", "512MB")] == [8e9, 8e9, 8 * 2**30, 512e6]


def test_the_facts_of_a_plan_are_those_that_tests_draw_up():
    assert set(predict(PRESETS["official"]("synthia")).facts) == set(FACTS)
