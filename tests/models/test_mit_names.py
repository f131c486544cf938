"""Weights of MiT under everybody's names: the key lists are those of the published files, the values are drawn."""

import re

import numpy as np
import pytest

from clan.models.heads import Head
from clan.models.mit import MiT
from clan.models.recognition import MIT, recognise
from clan.models.segmenter import Segmenter
from clan.models.weight_files import read_arrays, write_arrays
from clan.models.weights import convert, load_weights, to_file_names

WIDTHS, DEPTHS = (4, 8, 10, 16), (1, 2, 1, 1)

AUTHORS_STAGE = [
    "patch_embed{}.proj.weight", "patch_embed{}.proj.bias", "patch_embed{}.norm.weight", "patch_embed{}.norm.bias",
    "norm{}.weight", "norm{}.bias",
]  # fmt: skip
AUTHORS_BLOCK = [
    "norm1.weight", "norm1.bias", "attn.q.weight", "attn.q.bias", "attn.kv.weight", "attn.kv.bias", "attn.proj.weight",
    "attn.proj.bias", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.dwconv.dwconv.weight",
    "mlp.dwconv.dwconv.bias", "mlp.fc2.weight", "mlp.fc2.bias",
]  # fmt: skip
AUTHORS_REDUCTION = ["attn.sr.weight", "attn.sr.bias", "attn.norm.weight", "attn.norm.bias"]
"""In the blocks of the first three stages."""

CLASSIFIER = ["head.weight", "head.bias"]
"""Of the authors' files, and PaddleSeg's after them."""

HUGGING_FACE_STAGE = {
    "patch_embeddings.{}.proj.weight": "patch_embed{}.proj.weight",
    "patch_embeddings.{}.proj.bias": "patch_embed{}.proj.bias",
    "patch_embeddings.{}.layer_norm.weight": "patch_embed{}.norm.weight",
    "patch_embeddings.{}.layer_norm.bias": "patch_embed{}.norm.bias",
    "layer_norm.{}.weight": "norm{}.weight",
    "layer_norm.{}.bias": "norm{}.bias",
}
"""Theirs count from 0."""

HUGGING_FACE_BLOCK = {
    "layer_norm_1.weight": "norm1.weight",
    "layer_norm_1.bias": "norm1.bias",
    "attention.self.query.weight": "attn.q.weight",
    "attention.self.query.bias": "attn.q.bias",
    "attention.output.dense.weight": "attn.proj.weight",
    "attention.output.dense.bias": "attn.proj.bias",
    "layer_norm_2.weight": "norm2.weight",
    "layer_norm_2.bias": "norm2.bias",
    "mlp.dense1.weight": "mlp.fc1.weight",
    "mlp.dense1.bias": "mlp.fc1.bias",
    "mlp.dwconv.dwconv.weight": "mlp.dwconv.dwconv.weight",
    "mlp.dwconv.dwconv.bias": "mlp.dwconv.dwconv.bias",
    "mlp.dense2.weight": "mlp.fc2.weight",
    "mlp.dense2.bias": "mlp.fc2.bias",
}
HUGGING_FACE_REDUCTION = {
    "attention.self.sr.weight": "attn.sr.weight",
    "attention.self.sr.bias": "attn.sr.bias",
    "attention.self.layer_norm.weight": "attn.norm.weight",
    "attention.self.layer_norm.bias": "attn.norm.bias",
}

PADDLE_TRANSPOSES = re.compile(r"block\d\.\d+\.(attn\.(q|kv|proj)|mlp\.fc[12])\.weight")
"""Weights of Paddle's own linear layers, [in, out]."""


def network() -> Segmenter:
    return Segmenter(MiT(WIDTHS, DEPTHS), [Head(WIDTHS[-1], 3, (1,))])


def values(segmenter: Segmenter) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in to_file_names(segmenter.state_dict()).items()}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """Values of the trunk by the authors' names, float32."""
    random = np.random.default_rng(0)
    trunk = {name: array for name, array in values(network()).items() if not name.startswith("layer5.")}
    return {name: random.normal(size=array.shape).astype(np.float32) for name, array in trunk.items()}


def as_hugging_face(arrays, prefix):
    """The same arrays as `SegformerModel` of transformers stores them."""
    found = {}
    for stage, depth in enumerate(DEPTHS):
        for theirs, ours in HUGGING_FACE_STAGE.items():
            found[prefix + theirs.format(stage)] = arrays[ours.format(stage + 1)]
        for block in range(depth):
            start, own = f"{prefix}block.{stage}.{block}.", f"block{stage + 1}.{block}."
            for theirs, ours in (HUGGING_FACE_BLOCK | (HUGGING_FACE_REDUCTION if stage < 3 else {})).items():
                found[start + theirs] = arrays[own + ours]
            for kind in ("weight", "bias"):
                for part, array in zip(("key", "value"), np.split(arrays[f"{own}attn.kv.{kind}"], 2), strict=True):
                    found[f"{start}attention.self.{part}.{kind}"] = array
    return found


def as_paddleseg(arrays, prefix=""):
    """The same arrays as `MixVisionTransformer` of PaddleSeg stores them."""
    return {
        prefix + name: np.ascontiguousarray(array.T) if PADDLE_TRANSPOSES.fullmatch(name) else array
        for name, array in arrays.items()
    }


def with_classifier(arrays, shape=(1000, WIDTHS[-1])):
    return arrays | dict(zip(CLASSIFIER, (np.zeros(shape, np.float32), np.zeros(1000, np.float32)), strict=True))


FILES = {
    "the authors' mit_bN.pth": (".pth", with_classifier),
    "a checkpoint of SegFormer or DAFormer": (
        ".pth",
        lambda arrays: {f"backbone.{name}": array for name, array in arrays.items()},
    ),
    "PaddleSeg's backbone": (".pdparams", lambda arrays: with_classifier(as_paddleseg(arrays), (WIDTHS[-1], 1000))),
    "PaddleSeg's SegFormer": (".pdparams", lambda arrays: as_paddleseg(arrays, "backbone.")),
    "SegformerForImageClassification": (".safetensors", lambda arrays: as_hugging_face(arrays, "segformer.encoder.")),
    "SegformerModel": (".safetensors", lambda arrays: as_hugging_face(arrays, "encoder.")),
}


def test_names_are_the_authors(drawn):
    blocks = [
        f"block{stage}.{block}.{name}"
        for stage, depth in enumerate(DEPTHS, start=1)
        for block in range(depth)
        for name in AUTHORS_BLOCK + (AUTHORS_REDUCTION if stage < 4 else [])
    ]
    assert set(drawn) == {*(name.format(stage) for stage in (1, 2, 3, 4) for name in AUTHORS_STAGE), *blocks}


@pytest.mark.parametrize("kind", FILES)
def test_every_array_loads_into_the_same_network(kind, drawn, tmp_path):
    suffix, made = FILES[kind]
    write_arrays(made(drawn), tmp_path / f"weights{suffix}")
    segmenter = network()
    report = load_weights(segmenter, tmp_path / f"weights{suffix}")
    assert set(report.matched) == set(drawn)
    assert set(report.unexpected) <= set(CLASSIFIER)
    loaded = values(segmenter)
    for name, array in drawn.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


@pytest.mark.parametrize("kind", FILES)
def test_conversion_writes_the_authors_names_and_layout(kind, drawn, tmp_path):
    suffix, made = FILES[kind]
    write_arrays(made(drawn), tmp_path / f"theirs{suffix}")
    convert(tmp_path / f"theirs{suffix}", tmp_path / "ours.pth")
    found = read_arrays(tmp_path / "ours.pth")
    assert set(found) - set(CLASSIFIER) == set(drawn)
    assert all(np.array_equal(found[name], array) for name, array in drawn.items())


def test_key_and_value_are_not_joined_where_one_is_missing(drawn, tmp_path):
    arrays = as_hugging_face(drawn, "segformer.encoder.")
    del arrays["segformer.encoder.block.1.1.attention.self.value.bias"]
    write_arrays(arrays, tmp_path / "theirs.safetensors")
    report = load_weights(network(), tmp_path / "theirs.safetensors")
    assert report.missing[0] == "block2.1.attn.kv.bias"
    assert report.unexpected == ("block2.1.attn.key.bias",)


@pytest.mark.parametrize("shape", MIT)
def test_sizes_are_recognised(shape):
    width, *depths = shape
    arrays = {"patch_embed1.proj.bias": np.zeros(width, np.float32)}
    for stage, depth in enumerate(depths, start=1):
        arrays |= {f"block{stage}.{block}.norm1.weight": np.zeros(1, np.float32) for block in range(depth)}
    assert recognise(arrays).backbone == MIT[shape]
    assert recognise({**arrays, f"block4.{depths[-1]}.norm1.weight": np.zeros(1)}).backbone is None
