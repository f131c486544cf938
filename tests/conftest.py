from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared material beside the project's root: real data and the reference programs' results."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is not here")
    return folder
