"""No adaptation: both heads learn from the source alone. What every method must beat."""

from paddle import Tensor

from clan.methods.base import Backward, Method, Pair, Progress
from clan.run.method_options import SourceOnlyOptions


class SourceOnly(Method):
    """Supervised training on the labelled domain."""

    options_type = SourceOnlyOptions

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """The segmentation loss of both heads."""
        loss_seg = self.supervise(self.logits(batch.source), batch.source.labels)
        backward(loss_seg)
        return {"loss_seg": loss_seg}
