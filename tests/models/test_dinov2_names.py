"""Weights of DINOv2 under everybody's names: the key lists are those of the published files, the values are drawn."""

import numpy as np
import pytest
from paddle import nn

from clan.core.errors import WeightsError
from clan.models.dinov2 import DINOv2
from clan.models.light_head import LightHead
from clan.models.segmenter import Segmenter
from clan.models.weight_files import read_arrays, write_arrays
from clan.models.weights import convert, load_weights, to_file_names

WIDTH, DEPTH = 8, 4

AUTHORS = ["cls_token", "pos_embed", "mask_token", "patch_embed.proj.weight", "patch_embed.proj.bias"]
AUTHORS_BLOCK = [
    "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
    "ls1.gamma", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias",
    "ls2.gamma",
]  # fmt: skip
AUTHORS_END = ["norm.weight", "norm.bias"]

HUGGING_FACE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
HUGGING_FACE_BLOCK = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attention.output.dense.weight": "attn.proj.weight",
    "attention.output.dense.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "ls1.gamma",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.weight": "mlp.fc1.weight",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.weight": "mlp.fc2.weight",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "layer_scale2.lambda1": "ls2.gamma",
}
HUGGING_FACE_ATTENTION = [
    f"attention.attention.{part}.{kind}" for part in ("query", "key", "value") for kind in ("weight", "bias")
]

HEAD = [
    "upscale.0.weight", "upscale.1.weight", "upscale.1.bias", "upscale.3.weight", "upscale.4.weight", "upscale.4.bias",
    "upscale.5.weight", "upscale.6.weight", "upscale.6.bias", "out.weight",
]  # fmt: skip


def network(classes=3) -> Segmenter:
    return Segmenter(DINOv2(WIDTH, DEPTH, 2), [LightHead(WIDTH, classes)], align_corners=False)


def values(segmenter: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in to_file_names(segmenter.state_dict()).items()}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """Values of the trunk by the authors' names, float32."""
    random = np.random.default_rng(0)
    trunk = {name: array for name, array in values(network()).items() if not name.startswith("layer5.")}
    return {name: random.normal(size=array.shape).astype(np.float32) for name, array in trunk.items()}


def as_hugging_face(arrays, prefix="", encoder="encoder.layer"):
    """The same arrays as `Dinov2Model` of transformers stores them."""
    found = {prefix + theirs: arrays[ours] for theirs, ours in HUGGING_FACE.items()}
    for block in range(DEPTH):
        start = f"{prefix}{encoder}.{block}."
        found |= {start + theirs: arrays[f"blocks.{block}.{ours}"] for theirs, ours in HUGGING_FACE_BLOCK.items()}
        for name in HUGGING_FACE_ATTENTION:
            _, _, part, kind = name.split(".")
            joined = arrays[f"blocks.{block}.attn.qkv.{kind}"]
            found[start + name] = np.split(joined, 3)[("query", "key", "value").index(part)]
    return found


def test_names_are_the_authors(drawn):
    blocks = [f"blocks.{block}.{name}" for block in range(DEPTH) for name in AUTHORS_BLOCK]
    assert set(drawn) == {*AUTHORS, *blocks, *AUTHORS_END}
    assert {name for name in values(network()) if name not in drawn} == {f"layer5.{name}" for name in HEAD}


FILES = {
    "the authors' .pth": lambda arrays: arrays,
    "the authors' training, blocks in chunks": lambda arrays: {
        f"teacher.backbone.{name}".replace("blocks.", f"blocks.{int(name.split('.')[1]) // 2}.")
        if name.startswith("blocks.")
        else f"teacher.backbone.{name}": array
        for name, array in arrays.items()
    },
    "Dinov2Model": as_hugging_face,
    "Dinov2ForImageClassification": lambda arrays: as_hugging_face(arrays, "dinov2."),
    "VFM-UDA": lambda arrays: {f"encoder.{name}": array for name, array in arrays.items()},
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_array_of_the_trunk_loads(kind, suffix, drawn, tmp_path):
    path = tmp_path / f"weights{suffix}"
    write_arrays(FILES[kind](drawn), path)
    segmenter = network()
    report = load_weights(segmenter, path)
    assert set(report.matched) == set(drawn)
    assert report.unexpected == ()
    loaded = values(segmenter)
    for name, array in drawn.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


def test_vfm_uda_s_checkpoint_loads_with_its_head_and_not_its_average(drawn, tmp_path):
    saved = network()
    arrays = {name.removeprefix("layer5."): array for name, array in (values(saved) | drawn).items()}
    named = {f"network.{name if name in HEAD else f'encoder.{name}'}": array for name, array in arrays.items()}
    average = {name.replace("network.", "network_ema."): array + 1 for name, array in named.items()}
    write_arrays(average | named, tmp_path / "vfm.pth")
    segmenter = network()
    load_weights(segmenter, tmp_path / "vfm.pth", strict=True)
    for name, array in values(segmenter).items():
        np.testing.assert_array_equal(array, arrays[name.removeprefix("layer5.")], err_msg=name)


def test_conversion_joins_what_hugging_face_keeps_apart(drawn, tmp_path):
    write_arrays(as_hugging_face(drawn), tmp_path / "theirs.safetensors")
    convert(tmp_path / "theirs.safetensors", tmp_path / "ours.pth")
    found = read_arrays(tmp_path / "ours.pth")
    assert found.keys() == drawn.keys()
    assert all(np.array_equal(found[name], drawn[name]) for name in drawn)


def test_parts_of_attention_are_not_joined_where_one_is_missing(drawn, tmp_path):
    arrays = as_hugging_face(drawn)
    del arrays["encoder.layer.2.attention.attention.key.bias"]
    write_arrays(arrays, tmp_path / "theirs.safetensors")
    report = load_weights(network(), tmp_path / "theirs.safetensors")
    assert "blocks.2.attn.qkv.bias" in report.missing
    assert set(report.unexpected) == {"blocks.2.attn.query.bias", "blocks.2.attn.value.bias"}


@pytest.mark.parametrize("name", ["register_tokens", "embeddings.register_tokens", "reg_token"])
def test_register_tokens_are_refused(name, drawn, tmp_path):
    arrays = as_hugging_face(drawn) if "." in name else drawn
    write_arrays(arrays | {name: np.zeros((1, 4, WIDTH), np.float32)}, tmp_path / "weights.pth")
    segmenter = network()
    before = values(segmenter)
    with pytest.raises(WeightsError, match=r"weights\.pth was trained with register tokens, which the network has not"):
        load_weights(segmenter, tmp_path / "weights.pth")
    assert all(np.array_equal(before[name], array) for name, array in values(segmenter).items())
