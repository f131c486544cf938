"""Which GPU is whose; this needs none, since only Paddle's answers about them count."""

import paddle
import pytest

from clan.core.device import select_device
from clan.core.errors import ConfigError


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle.device, "set_device", lambda name: None)


def test_a_process_alone_takes_the_gpu_it_is_told(two_gpus):
    assert select_device("auto", 1) == "gpu:1"
    assert select_device("cpu", 0) == "cpu"


def test_the_launcher_says_which_gpu_is_a_rank_s(two_gpus, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(paddle.distributed, "ParallelEnv", lambda: type("Rank", (), {"device_id": 1}))
    assert select_device("auto") == "gpu:1"
    with pytest.raises(ConfigError, match="--gpu 1 under Paddle's launcher: choose GPUs by its --devices"):
        select_device("auto", 1)
    assert select_device("cpu") == "cpu"
