"""The self-test passes here on both paths, and notices what it is there to notice."""

import json

import numpy as np
import pytest
from paddle import nn

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
from clan.core.errors import DeviceError, TrainingError
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


def test_no_gradient_of_the_case_is_beyond_float16(monkeypatch):
    """With its loss scale, of what convolutions return; a step that overflowed all the same ends the case."""
    largest, build = [], module.build_method

    def watched(config):
        method = build(config)
        for network in method.networks.values():
            for layer in network.layer.sublayers():
                if isinstance(layer, nn.Conv2D):
                    layer.register_forward_post_hook(watch)
        return method

    def watch(layer, given, returned):
        if not returned.stop_gradient:
            returned.register_hook(lambda gradient: largest.append(float(gradient.abs().max())))

    monkeypatch.setattr(module, "build_method", watched)
    case("fp16")
    assert 0 < max(largest) < np.finfo(np.float16).max
    monkeypatch.setattr(module, "LOSS_SCALE", 2.0**140)
    with pytest.raises(TrainingError, match="overflow float16"):
        case("fp16")


PADDLE_S = RuntimeError(
    "\n\n-----------\nC++ Traceback (most recent call last):\n-----------\n0 conv2d_ad_func\n\n-----------\n"
    "Error Message Summary:\n-----------\nUnimplementedError: The kernel is not registered.\n  [Hint: none.]\n"
)


@pytest.mark.parametrize("error", [PADDLE_S, DeviceError("the memory of gpu:0 is used up"), TrainingError("overflow")])
@pytest.mark.parametrize("place", ["select_device", "case", "_time"])
def test_what_was_to_be_computed_and_was_not_is_a_deviation(monkeypatch, error, place):
    """Speed alone may be missing for want of memory, or since noise diverged."""

    def fail(*given):
        raise error

    monkeypatch.setattr(module, "case", lambda precision: load_reference())
    monkeypatch.setattr(module, "compare", lambda found, reference: dict.fromkeys(TOLERANCES["fp32"], 0.0))
    monkeypatch.setattr(module, "_time", lambda result: None)
    monkeypatch.setattr(module, place, fail)
    results = [result for result in run_selftest() if result.errors or result.failed]
    assert len(results) >= 1
    fails = place != "_time" or error is PADDLE_S
    said = "RuntimeError: UnimplementedError: The kernel is not registered. [Hint: none.]"
    for result in results:
        assert result.remark == (said if error is PADDLE_S else str(error))
        name = f"{result.path} {result.precision}"
        assert result.deviations == [f"{name}: was to be computed and was not"] * fails
    assert ("found no deviation" in report(results)) is not fails


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf")])
def test_what_deviates_ends_with_exit_code_1(monkeypatch, capsys, value):
    wrong = Result(
        "gpu", "bf16", dict.fromkeys(TOLERANCES["bf16"], 0.0) | {"losses": value}, {"512x256": 40.0, "full": None}
    )
    monkeypatch.setattr(module, "run_selftest", lambda **given: [wrong])
    with pytest.raises(SystemExit) as stop:
        dispatch(["doctor", "--selftest"])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert f"! gpu bf16: losses deviate by {value:.1e}, more than 5e-02" in said
    assert "512x256 40.00 images/s, full not measured" in said
    with pytest.raises(SystemExit):
        dispatch(["doctor", "--selftest", "--json"])
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["selftest"]
    assert found["errors"]["losses"] == (value if np.isfinite(value) else None)


def test_another_shape_is_a_deviation():
    reference = load_reference()
    assert compare({"gradients": reference["gradients"][1:]}, reference) == {"gradients": float("inf")}
