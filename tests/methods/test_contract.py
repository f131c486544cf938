"""What every method must do, on a small network and random images."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from clan.losses.adversarial import SOURCE, TARGET, adversarial_loss
from clan.methods import METHODS, build_method
from clan.methods.base import Domain, LabelledDomain, Pair, Progress
from clan.run.method_options import METHOD_OPTIONS
from clan.run.presets import official

pytestmark = [pytest.mark.plain, pytest.mark.core]

CLASSES, SIZE = 5, (40, 56)
AFTER_WARMUP = Progress(iteration=50, total=100, warmup=10)


@pytest.fixture(params=METHODS)
def name(request) -> str:
    return request.param


def build(name, seed=0, **network):
    paddle.seed(seed)
    config = official()
    network = {"backbone": "resnet-tiny", "num_classes": CLASSES, "discriminator_width": 4, **network}
    options = METHOD_OPTIONS[name]()
    if "confidence" in type(options).model_fields:  # an untrained teacher is never sure
        options = options.model_copy(update={"confidence": 0.0})
    config = config.model_copy(update={"method": options, "network": config.network.model_copy(update=network)})
    method = build_method(config)
    method.segmenter.train()
    return method


def pair(batch=2, seed=0, ignored=False):
    random = np.random.default_rng(seed)

    def domain(is_source):
        images = paddle.to_tensor(random.normal(0, 50, (batch, 3, *SIZE)).astype(np.float32))
        labels = np.full((batch, *SIZE), 255) if ignored else random.integers(0, CLASSES + 1, (batch, *SIZE))
        return LabelledDomain(images, SIZE, paddle.to_tensor(labels.astype(np.uint8)), is_source=is_source)

    return Pair(domain(True), domain(False))


def parameters(method):
    """Name → parameter of all networks."""
    networks = {"segmenter": method.segmenter, **method.discriminators}
    return {f"{kind}/{name}": p for kind, network in networks.items() for name, p in network.named_parameters()}


def gradients(method, batch, repeats=1, progress=AFTER_WARMUP):
    """What `repeats` equal steps add up, by parameter, and the losses of the last; running statistics stay."""
    for layer in method.segmenter.norms():
        layer.eval()
    for parameter in parameters(method).values():
        parameter.clear_gradient(False)
    for _ in range(repeats):
        paddle.seed(0)
        drawing = replace(batch, random=np.random.default_rng(0))  # methods that draw draw the same in each repeat
        losses = method.train_step(drawing, progress, lambda loss: loss.backward())
    found = {name: p.grad.numpy().copy() for name, p in parameters(method).items() if p.grad is not None}
    return found, {name: float(loss) for name, loss in losses.items()}


def test_every_trainable_parameter_gets_a_gradient_and_no_other(name):
    method = build(name)
    found, losses = gradients(method, pair())
    reached = {name for name, gradient in found.items() if np.abs(gradient).max() > 0}
    assert reached == {name for name, p in parameters(method).items() if not p.stop_gradient}
    assert all(np.isfinite(loss) for loss in losses.values())
    # Features have moved from their reference only after a step.
    assert [name for name, loss in losses.items() if name.startswith("loss_") and loss == 0] in ([], ["loss_fd"])


def test_every_backward_call_is_reported(name):
    method, given = build(name), []
    losses = method.train_step(pair(), AFTER_WARMUP, lambda loss: (given.append(float(loss)), loss.backward()))
    assert "loss_seg" in losses
    assert sum(given) == pytest.approx(sum(float(loss) for name, loss in losses.items() if "loss_" in name), rel=1e-5)


def test_networks_learn_from_their_own_losses_only(name):
    """The discriminators get nothing from the segmenter's turn, nor the segmenter from theirs."""
    method = build(name)
    of = {
        kind: [p for n, p in parameters(method).items() if n.startswith(f"{kind}/")] for kind in method.discriminators
    }
    own = list(method.segmenter.parameters())
    turns = []

    def backward(loss):
        before = [[None if p.grad is None else p.grad.numpy().copy() for p in group] for group in (own, *of.values())]
        loss.backward()
        after = [[None if p.grad is None else p.grad.numpy() for p in group] for group in (own, *of.values())]
        changed = [
            any(b is not None and (a is None or not np.array_equal(a, b)) for a, b in zip(*groups, strict=True))
            for groups in zip(before, after, strict=True)
        ]
        turns.append(changed.index(True) if sum(changed) == 1 else changed)

    method.train_step(pair(), AFTER_WARMUP, backward)
    assert set(turns) == set(range(1 + len(of))), "each loss changes the gradients of one network"


def test_discriminators_judge_what_they_are_trained_on(name):
    """During warm-up their losses have no weights of pixels; what `judge` gives has the same losses."""
    method, batch = build(name), pair()
    method.segmenter.eval()
    losses = method.train_step(batch, Progress(iteration=0, total=100, warmup=10), lambda loss: loss.backward())
    assert method.judge(batch.source).keys() == method.discriminators.keys()
    for domain, label, of in ((batch.source, SOURCE, "loss_D_s"), (batch.target, TARGET, "loss_D_t")):
        for key, logits in method.judge(domain).items():
            assert logits.shape == [2, 1, *SIZE]
            expected = float(losses[key.replace("discriminator", of)])
            assert float(adversarial_loss(logits, label)) == pytest.approx(expected, rel=1e-5)


def test_losses_are_finite_where_every_label_is_ignored(name):
    found, losses = gradients(build(name), pair(ignored=True))
    assert losses["loss_seg"] == 0
    assert all(np.isfinite(loss) for loss in losses.values())
    assert all(np.isfinite(gradient).all() for gradient in found.values())


def test_a_step_is_a_pure_function_of_the_networks(name):
    method = build(name)
    once, losses = gradients(method, pair(batch=1))
    twice, again = gradients(method, pair(batch=1), repeats=2)
    assert losses == again
    for key, gradient in once.items():
        np.testing.assert_allclose(twice[key], 2 * gradient, rtol=1e-4, atol=1e-6 * np.abs(gradient).max(), err_msg=key)
    other, others = gradients(build(name), pair(batch=1))
    assert losses == others
    for key, gradient in once.items():
        np.testing.assert_array_equal(gradient, other[key])


def test_target_labels_are_seen_by_the_oracle_alone(name):
    batch = pair()
    swapped = Pair(batch.source, LabelledDomain(batch.target.images, SIZE, paddle.zeros_like(batch.target.labels)))
    losses, others = (gradients(build(name), data)[1] for data in (batch, swapped))
    assert (losses != others) == METHODS[name].reads_target_labels == (name == "oracle")
    if name != "oracle":
        assert gradients(build(name), Pair(batch.source, Domain(batch.target.images, SIZE)))[1] == losses


@pytest.mark.parametrize("model", ["deeplab", "daformer"])
def test_statistics_of_the_source_are_those_of_a_run_on_the_source_alone(name, model):
    """The heads' too, where they have batch norms."""

    def after_a_step(name):
        method = build(name, model=model, head_channels=8)
        method.segmenter.separate_statistics()
        if name == "vfm":
            method.options = method.options.model_copy(update={"domain_jitter": False})
        method.train_step(replace(pair(), random=np.random.default_rng(0)), AFTER_WARMUP, lambda loss: loss.backward())
        state = method.segmenter.state_dict()
        return {key: value.numpy().copy() for key, value in state.items() if key.endswith("._source_mean")}

    found, alone = after_a_step(name), after_a_step("source-only")
    assert any(key.startswith("head") for key in alone) == (model == "daformer")
    for key, mean in alone.items():
        if name == "oracle":
            assert not found[key].any(), key
        else:
            np.testing.assert_allclose(found[key], mean, rtol=1e-4, atol=1e-5, err_msg=key)


def test_losses_fade_to_the_segmentation_loss(name):
    """At the end of a damped run nothing but the labels acts on the segmenter."""
    method = build(name)
    given = []
    progress = Progress(iteration=100, total=100, warmup=10)
    losses = method.train_step(pair(), progress, lambda loss: (given.append(float(loss)), loss.backward()))
    for key in ("loss_adv", "loss_adv_aux", "loss_weight", "loss_entropy"):
        assert float(losses.get(key, 0.0)) == 0


def test_without_its_own_ideas_clan_is_adaptsegnet():
    """No discrepancy in the weight, no divergence of the heads."""
    ours = build("clan")
    ours.options = ours.options.model_copy(update={"lambda_local": 0.0, "epsilon": 1.0, "lambda_weight": 0.0})
    found, losses = gradients(ours, pair())
    expected, baseline = gradients(build("adaptsegnet-single"), pair())
    assert losses.pop("loss_weight") == 0
    assert losses == pytest.approx(baseline, rel=1e-6)
    for key, gradient in expected.items():
        np.testing.assert_allclose(found[key], gradient, rtol=1e-4, atol=1e-6 * np.abs(gradient).max(), err_msg=key)


@pytest.mark.parametrize("fraction", [0.4, 0.6])
def test_self_training_sets_in_when_it_should_and_adds_the_heads_losses(fraction):
    plain, training = build("clan"), build("clan")
    training.options = training.options.model_copy(update={"lambda_self": 0.5, "self_training_start": 0.5})
    progress = Progress(iteration=int(100 * fraction), total=100, warmup=10)
    expected, without = gradients(plain, pair(), progress=progress)
    found, losses = gradients(training, pair(), progress=progress)
    assert ("loss_self" in losses) == (fraction > 0.5)
    assert losses.pop("loss_self", 0.0) >= 0
    assert losses == without
    name = "segmenter/head1.conv2d_list.0.weight"
    assert np.array_equal(found[name], expected[name]) == (fraction < 0.5)
