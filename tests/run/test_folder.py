"""Which snapshots of a run's folder may be chosen without labels."""

import pytest

from clan.core.errors import WeightsError
from clan.run.folder import find_candidates


def test_the_best_in_validation_is_no_candidate(tmp_path):
    for name in ("SYS_best", "SYS_10", "SYS_2", "SYS_2_D"):
        (tmp_path / f"{name}.pdparams").touch()
    assert [one.iteration for one in find_candidates(tmp_path)] == [2, 10]
    for path in tmp_path.glob("*[0-9].pdparams"):
        path.unlink()
    with pytest.raises(WeightsError, match="no snapshot but the best in validation"):
        find_candidates(tmp_path)
