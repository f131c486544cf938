"""Supervised training on the target's own labels: what adaptation, which has none, is measured against."""

from paddle import Tensor

from clan.methods.base import Backward, LabelledDomain, Method, Pair, Progress
from clan.run.method_options import OracleOptions


class Oracle(Method):
    """Both heads learn from the target alone, with its labels."""

    options_type = OracleOptions
    reads_target_labels = True

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """The segmentation loss of both heads."""
        assert isinstance(batch.target, LabelledDomain), "the target is sampled with labels"
        loss_seg = self.supervise(self.logits(batch.target), batch.target.labels)
        backward(loss_seg)
        return {"loss_seg": loss_seg}
