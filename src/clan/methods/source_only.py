"""No adaptation: supervised training on the source, the baseline of every method."""

from paddle import Tensor

from clan.methods.base import Backward, Method, Pair, Progress
from clan.run.method_options import SourceOnlyOptions


class SourceOnly(Method):
    """Segmentation loss on the source only."""

    options_type = SourceOnlyOptions

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Trains on the segmentation loss of all heads."""
        loss_seg = self.supervise(self.logits(batch.source), batch.source.labels)
        backward(loss_seg)
        return {"loss_seg": loss_seg}
