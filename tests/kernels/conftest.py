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
    monkeypatch.undo()  # what a test put over a kernel, which `uninstall` would leave in place
    kernels.uninstall()
    (kernels.install if before else kernels.uninstall)()
