"""Laws of suggesting images to label, on drawn impressions, and a run's images looked at."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.cli import main as cli
from clan.core.errors import ConfigError, DataError
from clan.data.lists import read_lines
from clan.evaluation.inference import EvaluationOptions
from clan.evaluation.label_maps import load_segmenter
from clan.evaluation.suggestion import Impressions, as_list, look, open_target, ranks, rarity, require_count, suggest
from clan.run.config import to_yaml
from clan.run.folder import find_snapshots
from clan.training.run import train


def impressions(number=12, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(classes), number)
    return Impressions(rng.random(number), rng.random(number), shares, rng.standard_normal((number, 5)))


@given(st.integers(1, 12), st.integers(0, 5), st.lists(st.integers(0, 11), max_size=3, unique=True))
def test_so_many_different_images_are_suggested_none_of_them_known(count, seed, known):
    count = min(count, 12 - len(known))
    found = [one.index for one in suggest(impressions(seed=seed), count, known)]
    assert len(set(found)) == count and not set(found) & set(known)


def test_more_images_continue_the_same_list():
    few, many = (suggest(impressions(), count) for count in (3, 9))
    assert many[:3] == few


def test_the_order_of_images_does_not_matter():
    seen, order = impressions(), np.random.default_rng(1).permutation(12)
    shuffled = Impressions(*(values[order] for values in vars(seen).values()))
    assert [order[one.index] for one in suggest(shuffled, 6)] == [one.index for one in suggest(seen, 6)]


def test_a_copy_of_a_chosen_image_comes_after_all_others():
    seen = impressions()
    twice = Impressions(*(np.concatenate([values, values[:1]]) for values in vars(seen).values()))
    found = [one.index for one in suggest(twice, 13)]
    assert found[-1] == 12 and found.index(0) < 12


def test_uncertain_images_come_first_of_images_otherwise_alike():
    same = np.tile(np.full(4, 0.25), (5, 1))
    seen = Impressions(np.array([0.1, 0.9, 0.3, 0.2, 0.4]), np.zeros(5), same, np.zeros((5, 3)))
    assert [one.index for one in suggest(seen, 5)] == [1, 4, 2, 3, 0]


def test_images_with_rare_classes_are_worth_more():
    shares = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.5, 0.45, 0.05], [0.5, 0.5, 0.0]])
    assert rarity(shares).argmax() == 2
    assert rarity(np.tile([0.2, 0.8], (3, 1))) == pytest.approx(1.0)


def test_equal_values_have_equal_ranks():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [1.0, 0.25, 1.0, 0.5]


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n")).map(lambda name: f"a/{name}.png"), min_size=1))
def test_a_list_of_names_is_read_back(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "list.txt"
    names = [os.fsdecode(name.encode("utf-8", "surrogatepass")) for name in names]
    path.write_bytes(as_list(names, path.parent))
    assert [line for _, line in read_lines(path)] == names


@pytest.mark.parametrize("name", ["a\nb.png", " a.png", "a.png\t"])
def test_a_name_that_no_line_can_hold_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="rename it"):
        as_list([name], tmp_path)


@pytest.fixture
def run(tiny):
    train(tiny(num_steps=2), output="quiet")
    return tiny(num_steps=2)


def test_a_run_s_images_are_looked_at_without_their_labels(run, monkeypatch, capsys):
    monkeypatch.setattr("clan.data.dataset.Dataset.read_codes", lambda *_: pytest.fail("a label is read"))
    cli.dispatch(["suggest", str(run.snapshot_dir), "-n", "2"])
    shown = capsys.readouterr().out
    names = (run.snapshot_dir / "suggested.txt").read_text().splitlines()
    dataset, known = open_target(run, run.snapshot_dir)
    assert len(set(names)) == 2 and set(names) <= set(dataset.names) and not known
    assert all(name in shown for name in names)

    labelled = run.model_copy(update={"target_labels": run.snapshot_dir / "suggested.txt"})
    dataset, known = open_target(labelled, run.snapshot_dir)
    assert sorted(dataset.names[index] for index in known) == sorted(names)
    with pytest.raises(ConfigError, match="3 target images, of which 2 are labelled"):
        require_count(2, dataset, known)

    path = find_snapshots(run.snapshot_dir)[-1].path
    options = EvaluationOptions.of_run(run, run.target.dataset)
    seen = look(load_segmenter(path, run.network), dataset, options)
    assert seen.shares.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert ((seen.entropy > 0) & (seen.entropy <= 1) & (seen.disagreement <= 1)).all()
    assert seen.features.shape[0] == len(dataset)


def test_no_list_is_lost_neither_the_first_one_nor_its_names(run, tmp_path, error_of, capsys):
    folder = str(run.snapshot_dir)
    first, second = run.snapshot_dir / "suggested.txt", tmp_path / "second.txt"
    for _ in range(2):
        cli.dispatch(["suggest", folder, "-n", "1"])
    names = first.read_text().splitlines()
    capsys.readouterr()
    assert "name another file with -o" in error_of(cli.dispatch, "suggest", folder, "-n", "2", "--json")
    assert first.read_text().splitlines() == names

    labelled = run.model_copy(update={"target_labels": first})
    (run.snapshot_dir / "config.yaml").write_text(to_yaml(labelled))
    cli.dispatch(["suggest", folder, "-n", "1", "-o", str(second)])
    both = second.read_text().splitlines()
    assert both[:1] == names and len(set(both)) == 2
    assert "1 images learnt already" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "part"), [("0", "ask for 1 or more"), ("4", "there are 3 target images")])
def test_a_number_that_cannot_be_suggested_is_a_sentence(run, error_of, capsys, count, part):
    capsys.readouterr()
    assert part in error_of(cli.dispatch, "suggest", str(run.snapshot_dir), "-n", count)
