import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clan.core import runtime
from clan.models.weight_files import read_arrays
from tests.pages import ROOT

pytestmark = pytest.mark.plain

STEPS = 12
AS_ON_A_GPU = """
from clan.core import runtime

runtime.import_paddle()
from clan.cli.port.train import main
from clan.core import fused

fused.in_one_call = lambda: True
main()
"""
"""Without kernels all tensors are updated in one call, as on a GPU."""


@pytest.fixture(scope="module")
def run(shared, golden_weights, tmp_path_factory) -> Path:
    """The snapshot folder of the official run's twelve iterations, made by CLAN_train.py itself."""
    folder = tmp_path_factory.mktemp("trajectory")
    mini = shared / "data/mini"
    flags = {
        "--data-dir": mini / "SYNTHIA/RAND_CITYSCAPES",
        "--data-list": mini / "lists/synthia_train.txt",
        "--data-dir-target": mini / "Cityscapes",
        "--data-list-target": mini / "lists/cityscapes_train.txt",
        "--input-size-source": "320,190",
        "--input-size-target": "256,128",
        "--learning-rate": "2e-5",
        "--learning-rate-D": "5e-5",
        "--lambda-local": "10",
        "--num-steps": STEPS,
        "--warmup-steps": 4,
        "--restore-from": golden_weights["segmenter"],
        "--restore-from-D": golden_weights["discriminator"],
        "--snapshot-dir": folder,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    switches = ["--no-shuffle", "--no-random-scale", "--no-random-mirror"]
    start = [ROOT / "CLAN_train.py"] if runtime.kernel_state().active else ["-c", AS_ON_A_GPU]
    subprocess.run([sys.executable, *start, *words, *switches], check=True)
    return folder


@pytest.fixture(scope="module")
def official(shared) -> dict:
    return json.loads((shared / "golden/trajectory_official_synthia.json").read_text())


def test_losses_equal_the_official_ones(run, official):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("loss_seg", "loss_adv", "loss_weight", "loss_D_s", "loss_D_t")
    ours = [[line[name] for name in names] for line in lines]
    np.testing.assert_allclose(ours, official["losses"], rtol=1e-3)
    columns = np.loadtxt(run / "loss.txt")
    np.testing.assert_allclose(columns, ours, rtol=0, atol=5.1e-5)  # four decimals
    # The official code differs from itself by 3e-5 between one thread and two, and so do kernels: 1.8e-5 was measured
    # on an Intel Xeon with two threads. Paddle's own operators were 4.1e-5 away.
    apart = 3e-5 if runtime.kernel_state().active else 5e-5
    np.testing.assert_allclose(columns, official["losses"], atol=5e-5 + apart)


@pytest.mark.parametrize(("network", "suffix"), [("segmenter", ""), ("discriminator", "_D")])
def test_final_parameters_equal_the_official_ones(run, official, network, suffix):
    state = read_arrays(run / f"SYS_{STEPS}{suffix}.pdparams")
    for name, (_, absolutes, _) in official[network].items():
        ours = state[name.replace("running_mean", "_mean").replace("running_var", "_variance")]
        # Paddle keeps the biased variance of a batch as the running one, PyTorch the unbiased.
        tolerance = 2e-3 if name.endswith("running_var") else 1e-4
        assert np.abs(ours.astype(np.float64)).sum() == pytest.approx(absolutes, rel=tolerance), name
