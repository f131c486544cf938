"""No adaptation: both heads learn from the source alone. What every method must beat."""

from paddle import Tensor

from clan.config import LossConfig
from clan.losses.segmentation import segmentation_loss
from clan.methods.base import Backward, Method, Pair, Progress
from clan.models.deeplab import Segmenter


class SourceOnly(Method):
    """Supervised training on the labelled domain.

    Args:
        segmenter: trunk and two heads.
        loss: its `gamma` is used.
        ignore_label: the trainId that takes part in no loss.
    """

    def __init__(self, segmenter: Segmenter, *, loss: LossConfig, ignore_label: int) -> None:
        self.segmenter = segmenter
        self.discriminators = {}
        self.loss = loss
        self.ignore_label = ignore_label

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """The segmentation loss of both heads."""
        losses = [
            segmentation_loss(logits, batch.source.labels, gamma=self.loss.gamma, ignore_label=self.ignore_label)
            for logits in self.logits(batch.source)
        ]
        loss_seg = losses[0] + losses[1]
        backward(loss_seg)
        return {"loss_seg": loss_seg}
