"""States on disk: which are kept, which are recognised as damaged, and that old ones are read."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from clan.core.errors import CheckpointError
from clan.core.files import write_atomically
from clan.run.checkpoint import Damaged, State, States, changes, check_fits, manifest_path, read_state
from clan.run.config import to_yaml
from clan.training.trainer import Trainer
from tests.conftest import metrics

pytestmark = pytest.mark.plain

STORED = Path(__file__).parent / "stored"


def state(iteration):
    arrays = {"segmenter/weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4).T + iteration}
    return State(iteration, arrays, "method: clan\n", notes={"skipped_steps": 3})


def filled(folder, *iterations, keep=9):
    states = States(folder, keep)
    for iteration in iterations:
        states.save(state(iteration))
    return states


def iterations(states):
    return [int(path.stem) for path in states.paths()]


def test_a_state_survives_its_file(tmp_path):
    found = filled(tmp_path, 7).latest()
    assert (found.iteration, found.config_yaml, found.ranks, found.notes) == (
        7,
        "method: clan\n",
        1,
        {"skipped_steps": 3},
    )
    np.testing.assert_array_equal(found.arrays["segmenter/weight"], state(7).arrays["segmenter/weight"])


def test_the_last_ones_are_kept_with_their_manifests(tmp_path):
    states = filled(tmp_path, 8, 9, 10, 100, keep=2)
    assert iterations(states) == [100, 10], "by number, not by name"
    assert {path.name for path in (tmp_path / "states").iterdir()} == {
        f"{iteration}.{suffix}" for iteration in (10, 100) for suffix in ("json", "safetensors")
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_and_any_cut_is_recognised(tmp_path, data):
    """In the state, or in its manifest: no part of a state is beyond the check."""
    whole = state(2)
    (path,) = filled(tmp_path, 2).paths()
    target = data.draw(st.sampled_from([path, manifest_path(path)]))
    content = bytearray(target.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    target.write_bytes(content)
    try:
        found = read_state(path)
    except Damaged:
        return
    assert target == manifest_path(path), "a changed state must not be read"
    assert found.iteration == 2
    np.testing.assert_array_equal(found.arrays["segmenter/weight"], whole.arrays["segmenter/weight"])


def test_damaged_states_are_named_and_passed_over(tmp_path):
    states = filled(tmp_path, 2, 4, 6)
    oldest, newest = states.paths()[2], states.paths()[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    manifest_path(states.paths()[1]).unlink()
    said = []
    assert states.latest(said.append).iteration == 2
    assert [sentence.endswith(f": passed over for {oldest}") for sentence in said] == [True, True]
    assert "6.safetensors is damaged (" in said[0]
    assert "4.safetensors has no manifest 4.json" in said[1]


def test_a_manifest_nested_beyond_reading_is_damage(tmp_path):
    states = filled(tmp_path, 2)
    manifest_path(states.paths()[0]).write_text("[" * 30_000)
    with pytest.raises(Damaged, match="damaged manifest"):
        read_state(states.paths()[0])


def test_a_damaged_state_does_not_count_as_kept(tmp_path):
    """Else the only whole one would go in its favour."""
    states = filled(tmp_path, 2, 4, keep=2)
    states.paths()[0].write_bytes(b"")
    states.latest(lambda sentence: None)
    states.save(state(5))
    assert iterations(states) == [5, 2]


def test_no_whole_state_is_no_state(tmp_path):
    with pytest.raises(CheckpointError, match="holds no state to resume from"):
        States(tmp_path).latest()
    states = filled(tmp_path, 2)
    states.paths()[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"2\.safetensors is damaged \(0 bytes instead of"):
        states.latest()


def test_a_writer_that_is_killed_leaves_the_states_before_and_what_is_swept_up(tmp_path):
    states = filled(tmp_path, 2)

    def killed(file):
        file.write(b"half")
        raise SystemExit

    with pytest.raises(SystemExit):
        write_atomically(tmp_path / "states/4.safetensors", killed)
    (tmp_path / "states/.4.safetensors.0123abcd").write_bytes(b"half")  # by a process that could not clean up
    (tmp_path / "states/4.json").write_bytes(b"{}")
    assert states.latest().iteration == 2
    states.remove_leftovers()
    assert {path.name for path in (tmp_path / "states").iterdir()} == {"2.json", "2.safetensors"}


def test_a_full_disk_ends_in_a_sentence(tmp_path):
    states = filled(tmp_path, 2)
    (tmp_path / "states/4.json").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot write .*4\.safetensors \(.*\): free disk space"):
        states.save(state(4))
    assert states.latest().iteration == 2


def test_a_stored_state_of_version_1_is_read(tmp_path, tiny):
    """Written by the first version of the program."""
    shutil.copy(STORED / "state.safetensors", tmp_path)
    found = States(tmp_path).latest()
    assert (found.iteration, found.ranks) == (1200, 2)
    weight = np.arange(12, dtype=np.float32).reshape(2, 3, 2) / 8
    np.testing.assert_array_equal(found.arrays["segmenter/backbone.conv1.weight"], weight)
    np.testing.assert_array_equal(found.arrays["loss_scale/counts"], [65536.0, 7.0, 1.0])
    config = tiny(source__root="worlds/SYNTHIA/RAND_CITYSCAPES", target__root="worlds/Cityscapes")
    assert check_fits(found, config, ranks=2) == "", "options that are new since have their defaults"


def test_a_state_of_a_newer_version_is_refused(tmp_path):
    save_file({}, tmp_path / "state.safetensors", {"version": "4", "iteration": "1", "config": ""})
    with pytest.raises(CheckpointError, match=r"version 4.* up to 3"):
        States(tmp_path).latest()


def test_a_run_of_version_1_goes_on_bit_for_bit(tiny, tmp_path):
    whole, halves = tiny(), tiny(num_steps_stop=2, snapshot_dir=tmp_path / "halves")
    for config in (whole, halves):
        Trainer(config, notify=lambda sentence: None).run()
    found = States(halves.snapshot_dir).latest()
    metadata = {"version": "1", "iteration": "2", "config": to_yaml(halves), "ranks": "1"}
    shutil.rmtree(halves.snapshot_dir / "states")
    save_file(dict(found.arrays), halves.snapshot_dir / "state.safetensors", metadata)
    resumed = tiny(snapshot_dir=halves.snapshot_dir, keep_last=1)
    Trainer(resumed, resume=True, notify=lambda sentence: None).run()
    left, right = (States(config.snapshot_dir).latest().arrays for config in (whole, resumed))
    assert [name for name in left if not np.array_equal(left[name], right[name])] == []
    assert metrics(whole.snapshot_dir) == metrics(resumed.snapshot_dir)
    assert not (halves.snapshot_dir / "state.safetensors").exists(), "it has had its turn"


def test_a_changed_configuration_is_named(tiny):
    before, after = to_yaml(tiny()), to_yaml(tiny(loss__gamma=0.5, num_workers=3, validate_every=5, loggers=()))
    assert changes(before, after) == "loss.gamma: 2.0 → 0.5"
    assert (
        changes(before.replace("keep_last: 2\n", "retired: 1\n"), after) == "loss.gamma: 2.0 → 0.5, retired: 1 → None"
    )
