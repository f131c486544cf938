"""Supervised training on the target's labels: the upper bound that adaptation is compared with."""

from paddle import Tensor

from clan.methods.base import Backward, LabelledDomain, Method, Pair, Progress
from clan.run.method_options import OracleOptions


class Oracle(Method):
    """Segmentation loss on the labelled target only."""

    options_type = OracleOptions
    reads_target_labels = True

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Trains on the segmentation loss of all heads."""
        assert isinstance(batch.target, LabelledDomain), "the target is sampled with labels"
        loss_seg = self.supervise(self.logits(batch.target), batch.target.labels)
        backward(loss_seg)
        return {"loss_seg": loss_seg}
