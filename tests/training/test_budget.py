"""What an iteration costs besides arithmetic, counted, since no GPU is at hand whose waiting could be timed.

Counted is what a GPU is given: ResNet-101 without kernels, all tensors of a network updated in one call.
"""

from collections import Counter
from functools import partial

import paddle
import pytest
from paddle.profiler import Profiler, ProfilerTarget

from clan.core import fused, runtime
from clan.models import resnet
from clan.training import learner
from clan.training.batches import to_device
from clan.training.trainer import Trainer
from tests.conftest import assert_same_end, metrics

UPDATE_LAUNCHES, HOST_READS = 60, 2
READS = ("numpy", "item", "tolist", "cpu", "__float__", "__int__", "__bool__", "__array__", "__index__")
"""The ways of a tensor's numbers to the host."""


@pytest.fixture
def thin(tiny, monkeypatch):
    """Makes trainers of ResNet-101 with few channels, updated in one call; every layer of it is there."""
    monkeypatch.setenv("CLAN_KERNELS", "0")
    runtime.import_paddle()
    monkeypatch.setattr(fused, "in_one_call", lambda: True)
    monkeypatch.setattr(resnet, "resnet101", partial(resnet.ResNet, (3, 4, 23, 3), width=2))
    small = {"source__size": (32, 32), "target__size": (32, 32)}
    yield lambda **fields: Trainer(
        tiny(network__backbone="resnet101", warmup_steps=0, save_every=100, num_steps=100, **small, **fields),
        notify=lambda sentence: None,
    )
    monkeypatch.undo()
    runtime.import_paddle()


def profiled(work):
    """How often each kind of event came while `work` ran: calls from Python into Paddle, and kernels."""
    profiler = Profiler(targets=[ProfilerTarget.CPU], on_trace_ready=lambda _: None)
    with profiler:
        work()
    counts, nodes = {"calls": Counter(), "launches": Counter()}, list(profiler.profiler_result.get_data().values())
    while nodes:
        node = nodes.pop()
        nodes += node.children_node
        if "pybind" in node.name:
            counts["calls"][node.name.partition(" ")[0]] += 1
        if node.name.endswith("kernel launch"):
            counts["launches"][node.name.partition(" ")[0]] += 1
    return counts


@pytest.fixture
def reads(monkeypatch):
    """Counts how often a tensor's numbers come to the host."""
    counts, inside = Counter(), []

    def counting(name, original):
        def method(self, *arguments, **options):
            inside.append(name)
            try:
                counts[name] += len(inside) == 1
                return original(self, *arguments, **options)
            finally:
                inside.pop()

        return method

    for name in READS:
        if (original := getattr(paddle.Tensor, name, None)) is not None:
            monkeypatch.setattr(paddle.Tensor, name, counting(name, original))
    return counts


@pytest.mark.plain
@pytest.mark.parametrize(
    ("method", "options", "op_calls"),
    [
        ("clan", {}, 1500),
        ("clan", {"optimizer__ema_decay": 0.99}, 1500),
        ("dacs", {}, 1500),
        ("mic", {"optimizer__algorithm": "adamw"}, 2250),  # five passes of networks instead of two or three
    ],
)
def test_an_iteration_keeps_to_its_budget(thin, reads, method, options, op_calls):
    trainer = thin(method=method, **options)
    batches = iter(trainer.loader)
    trainer._advance(batches)
    reads.clear()
    found = profiled(lambda: trainer._advance(batches))
    assert 500 < found["calls"].total() <= op_calls, found["calls"].most_common(9)
    assert 1 <= reads.total() <= HOST_READS, reads
    pair = next(batches)

    def update():
        trainer.method.before_step(1)
        trainer.learner.step(1)

    trainer.learner.accumulate(1, [to_device(pair)])
    launches = profiled(update)["launches"]
    assert {"merged_momentum", "fused_adam"} & set(launches)
    assert launches.total() <= UPDATE_LAUNCHES, launches


@pytest.mark.plain
@pytest.mark.parametrize("options", [{}, {"optimizer__algorithm": "adamw", "method": "dacs"}])
def test_both_ways_of_updating_train_alike_and_go_on_from_each_other_s_state(tiny, monkeypatch, options):
    def run(folder, first, second):
        config = tiny(snapshot_dir=tiny().snapshot_dir / folder, **options)
        for one_call, stop, resume in ((first, 2, False), (second, 4, True)):
            monkeypatch.setattr(fused, "in_one_call", lambda way=one_call: way)
            Trainer(config.model_copy(update={"num_steps_stop": stop}), resume=resume, notify=lambda _: None).run()
        return metrics(config.snapshot_dir)

    loops, mixed = run("loops", False, False), run("mixed", True, False)
    for one, other in zip(loops, mixed, strict=True):
        assert one == pytest.approx(other, rel=2e-4)


@pytest.mark.plain
@pytest.mark.parametrize("method", ["clan", "mic"])
def test_gradients_that_are_computed_for_cudnn_s_sake_change_nothing(tiny, monkeypatch, tmp_path, method):
    """Nothing sees the gradients of γ and β, and a run is the same."""
    folders = [tmp_path / name for name in ("without", "with")]
    for folder, kept in zip(folders, (False, True), strict=True):
        monkeypatch.setattr(learner, "has_cudnn", lambda kept=kept: kept)
        trainer = Trainer(tiny(method=method, snapshot_dir=folder, num_steps=2), notify=lambda sentence: None)
        assert bool(trainer.learner.untrained) is kept
        trainer.run()
    trained = [slot.parameter for one in trainer.learner.optimizers.values() for slot in one.slots]
    assert all(parameter.grad is None for parameter in [*trained, *trainer.learner.untrained]), "their memory is free"
    assert not any(".bn" in name for name in trainer.learner.gradients())
    assert_same_end(*folders)
