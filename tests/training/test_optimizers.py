import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clan.core.errors import ConfigError
from clan.models.discriminator import Discriminator
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.run.schedules import SCHEDULES, ScheduleOptions
from clan.training.optimizers import (
    SGD,
    Adam,
    AdamW,
    Settings,
    Slot,
    repeated_visits,
    segmenter_optimizer,
    visit_matrix,
)


def walk(p, v, g, *, rate, momentum, weight_decay, visits):
    """The official update, visit by visit, as its definition says."""
    for _ in range(visits):
        g = g + weight_decay * p
        v = momentum * v + g
        p = p - rate * v
    return p, v


def test_visits_are_counted_as_the_official_code_lists_parameters():
    visits = dict(repeated_visits(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3)).backbone))
    assert visits["conv1.weight"] == 1
    assert visits["layer1.0.conv1.weight"] == visits["layer4.0.conv3.weight"] == 3
    assert visits["layer2.0.downsample.0.weight"] == 4


@given(
    st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 0.1), st.floats(0, 1), st.floats(0, 0.1),
    st.integers(1, 4),
)  # fmt: skip
def test_visits_are_powers_of_one_matrix(p, v, g, rate, momentum, weight_decay, visits):
    options = {"momentum": momentum, "weight_decay": weight_decay, "visits": visits}
    expected = walk(p, v, g, rate=rate, **options)
    np.testing.assert_allclose((visit_matrix(rate, **options) @ [p, v, g])[:2], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("repeated", [True, False])
def test_sgd_equals_the_walk_over_three_steps(tiny, repeated):
    config = tiny(optimizer__repeated_updates=repeated, optimizer__head_multiplier=10.0)
    segmenter = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3))
    sgd = segmenter_optimizer(segmenter, config)
    assert isinstance(sgd, SGD)
    slots = {slot.name: slot for slot in sgd.slots}
    name = "backbone.layer1.0.downsample.0.weight"
    head = "head2.conv2d_list.1.bias"
    expected = {key: (slots[key].parameter.numpy().astype(np.float64), 0.0) for key in (name, head)}
    rng = np.random.default_rng(0)
    for step in range(1, 4):
        rate = 0.01 * step
        for slot in sgd.slots:
            slot.parameter.grad = paddle.to_tensor(rng.normal(size=slot.parameter.shape).astype(np.float32))
        for key, (multiplier, visits) in {name: (1.0, 4 if repeated else 1), head: (10.0, 1)}.items():
            p, v = expected[key]
            expected[key] = walk(
                p, v, slots[key].parameter.grad.numpy(), rate=rate * multiplier, momentum=0.9, weight_decay=5e-4,
                visits=visits,
            )  # fmt: skip
        sgd.step(rate)
    for key, (p, v) in expected.items():
        np.testing.assert_allclose(slots[key].parameter.numpy(), p, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(sgd.velocities[key].numpy(), v, rtol=2e-6, atol=1e-6)


def slots_of(network):
    return [Slot(name, parameter) for name, parameter in network.named_parameters()]


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_adam_goes_on_where_its_state_left_off(kind):
    def steps(network, adam, count):
        for k in range(count):
            network(paddle.full([1, 3, 64, 64], 0.1 * (k + 1))).mean().backward()
            adam.step(1e-3)
            adam.clear_grad()

    first = Discriminator(3, 4)
    adam = kind(slots_of(first), Settings(weight_decay=1e-3))
    steps(first, adam, 2)
    second = Discriminator(3, 4)
    second.set_state_dict(first.state_dict())
    restored = kind(slots_of(second), Settings(weight_decay=1e-3))
    restored.load_state_dict({name: value.numpy() for name, value in adam.state_dict().items()})
    steps(first, adam, 2)
    steps(second, restored, 2)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@given(st.integers(1, 1000), st.integers(0, 100), st.floats(0.1, 2))
@settings(max_examples=50)
def test_schedules(total, warmup, power):
    def rate(i, schedule):
        return SCHEDULES[schedule](1.0, i, ScheduleOptions(total, warmup, power, warmup_ratio=1e-6))

    for i in {0, total // 2, total - 1}:
        assert rate(i, "constant") == 1.0
        assert rate(i, "poly") == (1 - i / total) ** power
        rise = 1 - (1 - i / warmup) * (1 - 1e-6) if i < warmup else 1
        assert rate(i, "warmup-linear") == pytest.approx((1 - i / total) * rise, rel=1e-12)
        assert rate(i, "warmup-poly") == (i / warmup if i < warmup else rate(i, "poly"))
        rising = np.linspace(1e-6, 1, warmup)[i] if i < warmup else 1 - i / total
        assert rate(i, "warmup-then-linear") == pytest.approx(rising, rel=1e-12)


def decoupled(p, gradients, *, rate, betas, decay):
    """AdamW by its definition."""
    m = v = np.zeros_like(p)
    for step, g in enumerate(gradients, start=1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        p = p - rate * decay * p
        p = p - rate * (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + 1e-8)
    return p


def test_adamw_follows_its_definition_group_by_group(tiny):
    """The head at ten times the rate; backbone parameters that the rule names without decay."""
    config = tiny(
        optimizer__algorithm="adamw", optimizer__weight_decay=0.1, optimizer__no_decay=("conv1",),
        optimizer__betas=(0.8, 0.95),
    )  # fmt: skip
    segmenter = build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=3))
    adamw = segmenter_optimizer(segmenter, config)
    assert isinstance(adamw, AdamW)
    slots, rng = {slot.name: slot for slot in adamw.slots}, np.random.default_rng(0)
    names = {
        "backbone.layer1.0.conv2.weight": (1.0, 0.1),
        "backbone.layer1.0.conv1.weight": (1.0, 0.0),
        "head1.conv2d_list.0.weight": (10.0, 0.1),
    }
    start = {name: slots[name].parameter.numpy().astype(np.float64) for name in names}
    gradients = {name: [] for name in names}
    for _ in range(3):
        for slot in adamw.slots:
            slot.parameter.grad = paddle.to_tensor(rng.normal(size=slot.parameter.shape).astype(np.float32))
        for name in names:
            gradients[name].append(slots[name].parameter.grad.numpy().astype(np.float64))
        adamw.step(0.01)
    for name, (factor, decay) in names.items():
        expected = decoupled(start[name], gradients[name], rate=0.01 * factor, betas=(0.8, 0.95), decay=decay)
        np.testing.assert_allclose(slots[name].parameter.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_updates_repeat_where_the_official_code_says_how_often_and_nowhere_else(tiny):
    assert tiny().repeated_updates
    assert not tiny(network__backbone="mobilenetv2").repeated_updates
    assert not tiny(optimizer__algorithm="adamw").repeated_updates
    assert not tiny(optimizer__repeated_updates=False).repeated_updates
    for other in ({"network__backbone": "mobilenetv2"}, {"optimizer__algorithm": "adamw"}):
        config = tiny(optimizer__repeated_updates=True, **other)
        with pytest.raises(ConfigError, match=r"--optimizer\.no-repeated-updates"):
            segmenter_optimizer(build_segmenter(NetworkConfig(backbone=config.network.backbone, num_classes=3)), config)
