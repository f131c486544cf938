"""Which array belongs to which parameter, under everybody's names."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddle import nn

from clan.core.errors import WeightsError
from clan.models.weight_files import read_arrays, write_arrays
from clan.models.weights import (
    canonical_name,
    convert,
    has_projection_bias,
    load_weights,
    save_weights,
    to_file_names,
)
from clan.models.wrappings import PREFIXES, WRAPPERS


class Head(nn.Layer):
    def __init__(self, num_classes):
        super().__init__()
        self.conv2d_list = nn.LayerList([nn.Conv2D(4, num_classes, 3) for _ in range(2)])


class Trunk(nn.Layer):
    def __init__(self, bias):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 4, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(4)
        block = nn.Layer()
        block.downsample = nn.Sequential(nn.Conv2D(4, 4, 1, bias_attr=None if bias else False), nn.BatchNorm2D(4))
        self.layer1 = nn.Sequential(block)


class Network(nn.Layer):
    """The segmenter's names in small: 10 arrays of the trunk (11 with the seed's bias), 8 of the heads."""

    def __init__(self, num_classes=3, bias=False):
        super().__init__()
        self.trunk, self.head1, self.head2 = Trunk(bias), Head(num_classes), Head(num_classes)


def values(network):
    return {name: tensor.numpy() for name, tensor in to_file_names(network.state_dict()).items()}


def assert_equal(left, right):
    assert left.keys() == right.keys()
    assert all(np.array_equal(left[name], right[name]) for name in left)


NAMES = {
    "trunk.conv1.weight": "conv1.weight",
    "trunk.layer1.0.bn1._mean": "layer1.0.bn1._mean",
    "layer1.0.bn1.running_mean": "layer1.0.bn1._mean",
    "layer1.0.bn1.running_var": "layer1.0.bn1._variance",
    "bn1.num_batches_tracked": None,
    "head1.conv2d_list.0.weight": "layer5.conv2d_list.0.weight",
    "head2.conv2d_list.3.bias": "layer6.conv2d_list.3.bias",
    "classifier.weight": "classifier.weight",
}


@pytest.mark.parametrize("name", NAMES)
@given(prefixes=st.lists(st.sampled_from(["module.", "Scale."]), max_size=3))
def test_every_name_has_one_name_on_file(name, prefixes):
    canonical = canonical_name("".join(prefixes) + name)
    assert canonical == NAMES[name]
    assert canonical is None or canonical_name(canonical) == canonical


@given(prefixes=st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=4))
def test_any_words_of_wrappers_may_stand_in_front(prefixes):
    assert canonical_name(".".join([*prefixes, "trunk.conv1.weight"])) == "conv1.weight"


WRAPPINGS = [
    [], ["state_dict"], ["params"], ["params_ema"], ["model_state"], ["state_dict_ema"], ["teacher"], ["ema"],
    ["student"], ["network"], ["model", "state_dict"], ["teacher", "params"],
]  # fmt: skip


@pytest.mark.parametrize("keys", WRAPPINGS, ids=".".join)
def test_wrapped_and_prefixed_weights_load_and_the_summary_says_so(keys, tmp_path):
    saved = Network()
    content = {f"module.backbone.{name}": array for name, array in values(saved).items()}
    for key in reversed(keys):
        content = {"epoch": np.array(3), key: content}
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(content, 4))
    loaded = Network()
    report = load_weights(loaded, tmp_path / "w.pdparams", strict=True)
    assert_equal(values(saved), values(loaded))
    said = [f"found under the key {'.'.join(keys)}"] if keys else []
    assert report.summary().splitlines() == [
        "18 of 18 arrays matched",
        *said,
        "without the prefix module.backbone.",
    ]


def two(network, other, first, second):
    """Arrays of two networks as keys of a dict, if the keys end so, or as prefixes."""
    if first.endswith("."):
        return {f"{word}{name}": a for word, one in ((first, network), (second, other)) for name, a in one.items()}
    return {first: network, second: other}


@pytest.mark.parametrize("dots", ["", "."])
@pytest.mark.parametrize(("other", "wanted"), [("ema", "model"), ("teacher", "student")])
def test_of_two_networks_the_trained_one_is_taken_and_the_other_named(other, wanted, dots, tmp_path):
    saved, average = Network(), Network()
    content = two(values(average), values(saved), other + dots, wanted + dots)
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(content, 4))
    loaded = Network()
    report = load_weights(loaded, tmp_path / "w.pdparams", strict=True)
    assert_equal(values(loaded), values(saved))
    assert f"not taken: {other}{dots} (clan convert --take chooses)" in report.summary()
    convert(tmp_path / "w.pdparams", tmp_path / "chosen.pdparams", take=other)
    assert_equal(read_arrays(tmp_path / "chosen.pdparams"), values(average))
    with pytest.raises(WeightsError, match="holds nothing under queue: it has "):
        convert(tmp_path / "w.pdparams", tmp_path / "none.pdparams", take="queue")


def test_shapes_decide_which_of_two_networks_is_meant(tmp_path):
    saved, loaded = Network(), Network()
    narrow = {name: array[..., :1] for name, array in values(saved).items()}
    write_arrays(two(narrow, values(saved), "student.", "teacher."), tmp_path / "w.pdparams")
    load_weights(loaded, tmp_path / "w.pdparams", strict=True)
    assert_equal(values(loaded), values(saved))


def test_a_head_of_another_kind_beside_the_backbone_is_left_over(tmp_path):
    arrays = values(Network())
    others = {"auxiliary_head.conv_seg.weight": np.zeros((19, 4, 1, 1)), "decoder.conv1.weight": arrays["conv1.weight"]}
    trunk = {f"backbone.{name}": array for name, array in arrays.items() if not name.startswith("layer5")}
    write_arrays(trunk | others, tmp_path / "w.pdparams")
    report = load_weights(Network(), tmp_path / "w.pdparams")
    assert (len(report.matched), report.unexpected) == (14, tuple(others))


def test_dicts_that_hold_themselves_are_read_once(tmp_path):
    content = dict.fromkeys(WRAPPERS)
    content.update(dict.fromkeys(WRAPPERS, content))
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(WeightsError, match="holds no named arrays"):
        read_arrays(tmp_path / "w.pdparams")


def test_unknown_names_pass_through():
    assert canonical_name("features.0.1.weight") == "features.0.1.weight"
    assert canonical_name("the.module.weight") == "the.module.weight"


def test_the_seeds_bias_is_recognised():
    assert has_projection_bias({"module.layer1.0.downsample.0.bias": 0})
    assert not has_projection_bias({"layer1.0.downsample.1.bias": 0, "layer1.0.downsample.0.weight": 0})


@pytest.mark.parametrize("suffix", [".pdparams", ".pth", ".pt", ".safetensors"])
def test_saved_weights_load_again(suffix, tmp_path):
    saved, loaded = Network(), Network()
    save_weights(saved, tmp_path / f"w{suffix}")
    report = load_weights(loaded, tmp_path / f"w{suffix}", strict=True)
    assert_equal(values(saved), values(loaded))
    assert report.summary() == "18 of 18 arrays matched"
    assert set(read_arrays(tmp_path / f"w{suffix}")) == set(values(saved))


@pytest.mark.parametrize("prefix", ["", "module.", "Scale.", "module.Scale."])
def test_the_references_names_load(prefix, tmp_path):
    saved, loaded = Network(), Network()
    save_weights(saved, tmp_path / "w.pdparams")
    assert len(convert(tmp_path / "w.pdparams", tmp_path / "w.pth").arrays) == 18
    foreign = read_arrays(tmp_path / "w.pth")
    assert {"bn1.running_mean", "bn1.running_var", "layer5.conv2d_list.0.weight"} <= set(foreign)
    foreign = {prefix + name: array for name, array in foreign.items()}
    foreign[f"{prefix}bn1.num_batches_tracked"] = np.array(9)
    write_arrays(foreign, tmp_path / "prefixed.pth")
    assert load_weights(loaded, tmp_path / "prefixed.pth", strict=True).unexpected == ()
    assert_equal(values(saved), values(loaded))


def test_converting_there_and_back_changes_nothing(tmp_path):
    save_weights(Network(), tmp_path / "a.pdparams")
    for source, target in [
        ("a.pdparams", "b.pth"),
        ("b.pth", "c.safetensors"),
        ("c.safetensors", "d.pdparams"),
    ]:
        convert(tmp_path / source, tmp_path / target)
    assert_equal(read_arrays(tmp_path / "a.pdparams"), read_arrays(tmp_path / "d.pdparams"))


def test_heads_of_other_classes_are_skipped_with_notice(tmp_path):
    save_weights(Network(num_classes=21), tmp_path / "w.pdparams")
    network = Network(num_classes=19)
    before = values(network)
    report = load_weights(network, tmp_path / "w.pdparams")
    assert len(report.matched) == 10
    assert report.mismatched["layer5.conv2d_list.0.weight"] == ((21, 4, 3, 3), (19, 4, 3, 3))
    assert report.summary() == (
        "10 of 18 arrays matched\n"
        "skipped (other shape): layer5.conv2d_list.0.weight (21, 4, 3, 3), here (19, 4, 3, 3); "
        "layer5.conv2d_list.0.bias (21,), here (19,); "
        "layer5.conv2d_list.1.weight (21, 4, 3, 3), here (19, 4, 3, 3) and 5 more"
    )
    after = values(network)
    assert all(np.array_equal(before[name], after[name]) for name in report.mismatched)


def test_evaluation_refuses_heads_of_other_classes(tmp_path):
    path = tmp_path / "w.pdparams"
    save_weights(Network(num_classes=21), path)
    network = Network(num_classes=19)
    before = values(network)
    with pytest.raises(WeightsError) as caught:
        load_weights(network, path, strict=True)
    for part in (f"{path} ", "21 classes", " 19 ", "--num-classes 21"):
        assert part in str(caught.value)
    assert_equal(before, values(network))


def test_heads_can_be_left_alone(tmp_path):
    saved, loaded = Network(), Network()
    before = values(loaded)
    save_weights(saved, tmp_path / "w.pdparams")
    report = load_weights(loaded, tmp_path / "w.pdparams", restore_heads=False, strict=True)
    assert (len(report.matched), len(report.skipped)) == (10, 8)
    assert "skipped (heads start afresh): layer5.conv2d_list.0.weight" in report.summary()
    heads = {name: array for name, array in before.items() if name.startswith(("layer5.", "layer6."))}
    assert_equal(values(loaded), values(saved) | heads)


def test_the_seeds_bias_is_used_or_reported(tmp_path):
    save_weights(Network(bias=True), tmp_path / "seed.pdparams")
    assert has_projection_bias(read_arrays(tmp_path / "seed.pdparams"))
    assert load_weights(Network(bias=True), tmp_path / "seed.pdparams", strict=True).unexpected == ()
    report = load_weights(Network(), tmp_path / "seed.pdparams")
    assert report.unexpected == ("layer1.0.downsample.0.bias",)
    assert report.summary() == "18 of 18 arrays matched\nunexpected: layer1.0.downsample.0.bias"


def test_evaluation_refuses_a_part_of_the_weights(tmp_path):
    arrays = values(Network())
    del arrays["conv1.weight"], arrays["bn1._mean"]
    write_arrays(arrays, tmp_path / "w.pdparams")
    assert load_weights(Network(), tmp_path / "w.pdparams").missing == ("conv1.weight", "bn1._mean")
    with pytest.raises(WeightsError, match=r"lacks 2 of the network's arrays \(conv1.weight; bn1._mean\)"):
        load_weights(Network(), tmp_path / "w.pdparams", strict=True)


def test_evaluation_refuses_another_shape(tmp_path):
    write_arrays(values(Network()) | {"conv1.weight": np.zeros((8, 3, 1, 1))}, tmp_path / "w.pdparams")
    with pytest.raises(WeightsError, match=r"has conv1.weight \(8, 3, 1, 1\), the network \(4, 3, 1, 1\)"):
        load_weights(Network(), tmp_path / "w.pdparams", strict=True)


def test_nothing_in_common_is_an_error(tmp_path):
    write_arrays({"features.0.weight": np.zeros(3, np.float32)}, tmp_path / "w.pdparams")
    with pytest.raises(
        WeightsError,
        match=r"has no array that fits the network by name and shape \(it has features.0.weight, ",
    ):
        load_weights(Network(), tmp_path / "w.pdparams")


def test_two_names_for_one_array_are_an_error(tmp_path):
    arrays = {"module.conv1.weight": np.zeros(3), "Scale.conv1.weight": np.ones(3)}
    write_arrays(arrays, tmp_path / "w.pdparams")
    with pytest.raises(WeightsError, match=r"holds conv1\.weight under two names"):
        load_weights(Network(), tmp_path / "w.pdparams")


def test_other_number_types_become_the_networks(tmp_path):
    saved, loaded = values(Network()), Network()
    write_arrays({name: array.astype(np.float64) for name, array in saved.items()}, tmp_path / "w.pth")
    load_weights(loaded, tmp_path / "w.pth", strict=True)
    assert_equal(saved, values(loaded))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_loaded(value, tmp_path):
    """1e300 is finite in the file, but not as the network's float32."""
    network, arrays = Network(), values(Network())
    before = values(network)
    variance = arrays["bn1._variance"].astype(np.float64)
    variance[1] = value
    write_arrays(arrays | {"bn1._variance": variance}, tmp_path / "w.pdparams")
    with pytest.raises(WeightsError, match=r"w.pdparams has 1 of 4 numbers in bn1._variance that are not finite: "):
        load_weights(network, tmp_path / "w.pdparams")
    assert_equal(values(network), before)
    write_arrays(arrays | {"another": variance}, tmp_path / "w.pdparams")
    assert load_weights(network, tmp_path / "w.pdparams").unexpected == ("another",), "what is not loaded does no harm"
