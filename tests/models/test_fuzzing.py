"""A short run of the fuzzer; `python -m benchmarks.fuzz_weights` is the long one."""

import pytest

from benchmarks.fuzz_weights import SEEDS, fuzz, mutant


@pytest.mark.parametrize("kind", SEEDS)
def test_a_mutated_file_is_refused_or_read_within_bounds(kind, tmp_path):
    tally = fuzz(kind, files=300, seed=1, folder=tmp_path)
    assert not tally.faults
    assert tally.refused > 100
    assert tally.read > 2


def test_a_mutant_follows_from_its_number():
    assert all(mutant(kind, 0, 7) == mutant(kind, 0, 7) != mutant(kind, 1, 7) for kind in SEEDS)
