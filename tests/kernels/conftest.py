import pytest

from clan import kernels


@pytest.fixture(autouse=True)
def kernels_in_place(monkeypatch):
    """Whatever the environment says, and again after tests that take them away."""
    monkeypatch.delenv("CLAN_KERNELS", raising=False)
    before = kernels.active()
    kernels.install()
    if not kernels.active():
        pytest.skip(f"kernels are not active: {kernels.remark()}")
    yield
    (kernels.install if before else kernels.uninstall)()
