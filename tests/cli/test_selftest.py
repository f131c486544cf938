"""The self-test passes here on both paths, and notices what it is there to notice."""

import json

import numpy as np
import pytest

from clan.cli import selftest as module
from clan.cli.main import dispatch
from clan.cli.selftest import (
    REFERENCE,
    TOLERANCES,
    Result,
    as_json,
    case,
    compare,
    load_reference,
    report,
    run_selftest,
)
from clan.core.runtime import kernel_state


@pytest.mark.core
@pytest.mark.plain
def test_this_machine_computes_the_recorded_numbers():
    before = kernel_state()
    results = run_selftest(timed=False)
    assert kernel_state() == before
    assert [result.deviations for result in results] == [[]] * len(results)
    computed = {result.path for result in results if result.errors}
    assert "plain" in computed
    assert json.loads(json.dumps(as_json(results)))[0]["path"] == "kernels"
    assert "The selftest found no deviation." in report(results)


def test_the_reference_is_small():
    assert REFERENCE.stat().st_size < 100_000


def test_products_of_fewer_bits_are_noticed(monkeypatch):
    """Inputs rounded as TF32 does are beyond what float32 may deviate, and within what TF32 may."""
    fill = module.fill
    monkeypatch.setattr(module, "fill", lambda method: rounded(fill, method))
    errors = compare(case(), load_reference())
    assert Result("gpu", "fp32", errors).deviations
    assert Result("gpu", "tf32", errors).deviations == []


def rounded(fill, method):
    fill(method)
    for network in method.networks.values():
        for parameter in network.layer.parameters():
            if parameter.ndim == 4:
                bits = (parameter.numpy().view(np.uint32) + 0x1000) & 0xFFFFE000
                parameter.set_value(bits.view(np.float32))


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_what_deviates_ends_with_exit_code_1(monkeypatch, capsys, value):
    wrong = Result(
        "gpu", "bf16", dict.fromkeys(TOLERANCES["bf16"], 0.0) | {"losses": value}, {"512x256": 40.0, "full": None}
    )
    monkeypatch.setattr(module, "run_selftest", lambda: [wrong])
    with pytest.raises(SystemExit) as stop:
        dispatch(["doctor", "--selftest"])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert f"! gpu bf16: losses deviate by {value:.1e}, more than 5e-02" in said
    assert "512x256 40.00 images/s, full not measured" in said


def test_another_shape_is_a_deviation():
    reference = load_reference()
    assert compare({"gradients": reference["gradients"][1:]}, reference) == {"gradients": float("inf")}
