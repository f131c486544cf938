"""Names and layout of MiT's arrays in files of Hugging Face and of PaddleSeg."""

import re
from collections.abc import Mapping

import numpy as np

from clan.models.joining import join

_STAGES = (1, 2, 3, 4)
RENAMES = (
    *((rf"^patch_embeddings\.{stage - 1}\.", f"patch_embed{stage}.") for stage in _STAGES),
    *((rf"^block\.{stage - 1}\.", f"block{stage}.") for stage in _STAGES),
    *((rf"^layer_norm\.{stage - 1}\.", f"norm{stage}.") for stage in _STAGES),
    (r"^(patch_embed\d)\.layer_norm\.", r"\1.norm."),
    (r"^(block\d\.\d+)\.layer_norm_([12])\.", r"\1.norm\2."),
    (r"^(block\d\.\d+)\.attention\.self\.query\.", r"\1.attn.q."),
    (r"^(block\d\.\d+)\.attention\.self\.layer_norm\.", r"\1.attn.norm."),
    (r"^(block\d\.\d+)\.attention\.self\.", r"\1.attn."),
    (r"^(block\d\.\d+)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"^(block\d\.\d+\.mlp)\.dense([12])\.", r"\1.fc\2."),
)
"""Pattern → replacement, applied in order: from Hugging Face's name without prefix to the name on file."""

_LINEAR = re.compile(r"(block\d\.\d+)\.(?:attn\.(?:q|kv|proj)|mlp\.fc[12])\.weight")
"""Names on file of the weights of linear layers, which PaddleSeg has as [in, out]."""


def arrange(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Joins key and value, which Hugging Face keeps apart, to kv, and transposes weights of [in, out]; all others stay.

    A block's weights are [in, out] if its first linear layer, which leads to more channels, has more columns than
    rows; most others are square.

    Args:
        arrays: by their names on file.
    """
    arranged = join(arrays, r"block\d\.\d+\.attn", ("key", "value"), "kv")
    return {name: _out_in(name, array, arranged) for name, array in arranged.items()}


def _out_in(name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weight of a linear layer as [out, in], any other array as it is."""
    found = _LINEAR.fullmatch(name)
    first = arrays.get(f"{found[1]}.mlp.fc1.weight") if found else None
    if first is None or first.ndim != 2 or array.ndim != 2 or first.shape[0] >= first.shape[1]:
        return array
    return np.ascontiguousarray(array.T)
