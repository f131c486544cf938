"""Names and layout of DINOv2's arrays in files of Hugging Face, of the authors' training and of VFM-UDA."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from clan.core.errors import WeightsError
from clan.models.joining import join

RENAMES = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layer\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.attention\.attention\.", r"\1.attn."),
    (r"^(blocks\.\d+)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
    (r"^layernorm\.", "norm."),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # training groups blocks and keeps their numbers
    (r"^(upscale|out)\.", r"layer5.\1."),  # VFM-UDA's head
)
"""Pattern → replacement, applied in order: from a name without prefix to the name on file."""

ATTENTION = r"blocks\.\d+\.attn"
PARTS = ("query", "key", "value")
REGISTERS = ("register_tokens", "reg_token")
"""The register tokens' names of the authors and Hugging Face, and timm's."""


def join_attention(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Joins query, key and value of `blocks.N.attn`, which Hugging Face keeps apart, to qkv; all others stay.

    Args:
        arrays: by their names on file.
    """
    return join(arrays, ATTENTION, PARTS, "qkv")


def require_no_registers(path: Path, arrays: Collection[str], wanted: Collection[str]) -> None:
    """Refuses weights that were trained with register tokens for a network without.

    Args:
        path: the file, for the message.
        arrays: names on file of its arrays.
        wanted: those of the network.

    Raises:
        WeightsError: they have register tokens.
    """
    if "mask_token" in wanted and any(name in arrays for name in REGISTERS):
        raise WeightsError(
            f"{path} was trained with register tokens, which the network has not: take the weights without, such as "
            "dinov2_vits14_pretrain.pth"
        )
