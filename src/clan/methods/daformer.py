"""DAFormer's training: DACS, with features held to those of ImageNet on things (Hoyer et al., CVPR 2022)."""

import paddle
from paddle import Tensor

from clan.losses.features import cells_of, feature_distance
from clan.methods.base import LabelledDomain, Role, assign, duplicate
from clan.methods.self_training import SelfTraining
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.method_options import DaformerOptions


class DAFormer(SelfTraining):
    """Self-training, and the distance of features from those of a frozen copy of the initial backbone."""

    options_type = DaformerOptions

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        super().__init__(segmenter, config, class_weights)
        self.things = self.options.thing_ids(config.classes.owners)
        self.reference = None
        if self.options.lambda_fd:
            self.reference = self.add("reference", duplicate(segmenter.backbone), Role.REFERENCE)

    def on_weights_loaded(self) -> None:
        """The reference is the student's backbone with its initial weights."""
        super().on_weights_loaded()
        if self.reference is not None:
            assign(self.reference, self.segmenter.backbone)

    def source_losses(self, source: LabelledDomain) -> dict[str, Tensor]:
        """Returns L_s, and λ_fd times the mean distance on cells of things."""
        if self.reference is None:
            return super().source_losses(source)
        with self.statistics_of(source):
            pyramid = self.segmenter.backbone.pyramid(source.images)
            coarse = self.segmenter.read(pyramid)
        logits = [self.segmenter.resize(head, source.size) for head in coarse]
        loss_seg = self.supervise(logits, source.labels, mean_over="pixels")
        features = pyramid[-1]
        with paddle.no_grad():
            wanted = self.reference(source.images)
            cells = cells_of(source.labels, self.things, features.shape[2:], smallest_share=self.options.thing_share)
        return {"loss_seg": loss_seg, "loss_fd": self.options.lambda_fd * feature_distance(features, wanted, cells)}
