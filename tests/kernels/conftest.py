import pytest

from clan import kernels
from tests.needs import needed


@pytest.fixture(autouse=True)
def kernels_in_place(monkeypatch):
    """Whatever the environment says, and again after tests that take them away."""
    monkeypatch.delenv("CLAN_KERNELS", raising=False)
    before = kernels.active()
    kernels.install()
    needed("kernels", kernels.active())
    yield
    (kernels.install if before else kernels.uninstall)()
