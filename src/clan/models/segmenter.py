"""The segmenter: a backbone, and heads on its features."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from paddle import Tensor, nn
from paddle.nn import functional as F
from paddle.nn.layer.norm import _BatchNormBase

from clan.core.schema import find
from clan.models.heads import Head
from clan.models.options import BACKBONES, HEADS, NetworkConfig, Upsampling


def batch_norms(network: nn.Layer) -> list[_BatchNormBase]:
    """The batch norms of a network, synchronised ones too, in order."""
    return [layer for layer in network.sublayers(include_self=True) if isinstance(layer, _BatchNormBase)]


def own_weights(head: nn.Layer) -> list[Tensor]:
    """What a head differs in from others: all parameters but the norms', which begin as 1 in every head."""
    layers = head.sublayers(include_self=True)
    others = [layer for layer in layers if not isinstance(layer, _BatchNormBase | nn.LayerNorm)]
    return [parameter for layer in others for parameter in layer.parameters(include_sublayers=False)]


class Segmenter(nn.Layer):
    """A backbone and heads of the same shape on its features, without shared weights.

    Args:
        backbone: see `clan.models.options.BACKBONES`.
        heads: see `clan.models.options.HEADS`; they are called head1, head2, … in states.
        auxiliary: a further head for the third level.
        align_corners: how `upsample` resizes the logits.
    """

    def __init__(
        self,
        backbone: nn.Layer,
        heads: Sequence[nn.Layer],
        *,
        auxiliary: nn.Layer | None = None,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_heads = len(heads)
        for number, head in enumerate(heads, start=1):
            self.add_sublayer(f"head{number}", head)
        self.auxiliary = auxiliary
        self.align_corners = align_corners

    @property
    def heads(self) -> list[Any]:
        """The heads whose logits are added."""
        return [getattr(self, f"head{number}") for number in range(1, self.num_heads + 1)]

    def forward(self, images: Tensor, **options: Any) -> tuple[Tensor, ...]:
        """Images [B, 3, h, w] → logits of every head [B, C, about h/stride, about w/stride].

        Args:
            images: the input.
            options: further arguments of the backbone's `pyramid`, such as a mask.
        """
        return self.read(self.backbone.pyramid(images, **options))

    def read(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The logits of every head from the backbone's levels."""
        heads = self.heads
        kind: Any = type(heads[0])
        return tuple(kind.run_together(heads, *(pyramid[level] for level in kind.reads)))

    def all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Like `forward`, and the auxiliary head's logits last."""
        assert self.auxiliary is not None
        pyramid = self.backbone.pyramid(images)
        return *self.read(pyramid), self.auxiliary(pyramid[AUXILIARY_LEVEL])

    def resize(self, logits: Tensor, size: tuple[int, int], mode: Upsampling = "bilinear") -> Tensor:
        """Logits [B, C, h, w] at `size` (H, W)."""
        return upsample(logits, size, mode, align_corners=self.align_corners)

    def norms(self) -> list[_BatchNormBase]:
        """The batch norms, the backbone's stem's first."""
        return batch_norms(self)

    def separate_statistics(self) -> None:
        """Adds separate running statistics for the source, initialised as a copy.

        They are the buffers `_source_mean` and `_source_variance`; the usual buffers become the target's.
        """
        for layer in self.norms():
            layer.register_buffer("_source_mean", layer._mean.clone())
            layer.register_buffer("_source_variance", layer._variance.clone())

    @contextmanager
    def source_statistics(self) -> Iterator[None]:
        """Within the block, batch norms use and update the source's running statistics, if separate."""
        separate = [layer for layer in self.norms() if "_source_mean" in layer._buffers]

        def exchange() -> None:
            for layer in separate:
                for name in ("mean", "variance"):
                    usual, source = layer._parameters, layer._buffers
                    usual[f"_{name}"], source[f"_source_{name}"] = source[f"_source_{name}"], usual[f"_{name}"]

        exchange()
        try:
            yield
        finally:
            exchange()


AUXILIARY_LEVEL = 2
"""The level that the auxiliary head reads."""


def build_segmenter(network: NetworkConfig, *, auxiliary_head: bool = False) -> Segmenter:
    """The segmenter that a configuration describes, with random weights.

    Args:
        network: the configuration.
        auxiliary_head: add a DeepLab head on level `AUXILIARY_LEVEL`.
    """
    options: dict[str, Any] = {"projection_bias": True} if network.projection_bias else {}
    if network.drop_path is not None:
        options["drop_path"] = network.drop_path
    backbone = find(BACKBONES[network.backbone])(output_stride=network.stride, **options)
    kind = find(HEADS[network.model])
    channels = [backbone.channels[level] for level in kind.reads]
    segmenter = Segmenter(
        backbone,
        [kind.of(network, *channels) for _ in range(network.num_heads)],
        auxiliary=Head.of(network, backbone.channels[AUXILIARY_LEVEL]) if auxiliary_head else None,
        align_corners=network.align_corners,
    )
    for number, layer in enumerate(batch_norms(backbone)):
        trained = network.train_batch_norm_affine and number > 0
        # Not layer.parameters(), which includes the running statistics.
        for parameter in (layer.weight, layer.bias):
            assert parameter is not None
            parameter.stop_gradient = not trained
    return segmenter


def upsample(
    maps: Tensor, size: tuple[int, int], mode: Upsampling = "bilinear", *, align_corners: bool = True
) -> Tensor:
    """Resizes [B, C, h, w] to `size` (H, W), bilinear or bicubic."""
    return F.interpolate(maps, size=size, mode=mode, align_corners=align_corners)
