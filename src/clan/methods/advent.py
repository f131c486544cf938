"""ADVENT: minimises the entropy of target predictions, directly or adversarially (Vu et al., CVPR 2019).

Default weights are 0.001, as in the authors' published configuration, but without its auxiliary output.
"""

import paddle
from paddle import Tensor

from clan.losses.entropy import mean_entropy, self_information
from clan.losses.segmentation import class_probabilities
from clan.methods.adaptsegnet import AdaptSegNet, Logits
from clan.methods.base import Backward, Method, Pair, Progress
from clan.run.method_options import AdvEntOptions, MinEntOptions


class AdvEnt(AdaptSegNet):
    """AdaptSegNet whose discriminator reads weighted self-information maps."""

    options_type = AdvEntOptions

    def view(self, logits: Logits) -> Tensor:
        """Returns the maps −p log p, float32 [B, C, H, W]."""
        return self_information(super().view(logits))


class MinEnt(Method):
    """Adds the entropy on the target as a loss; no discriminator."""

    options_type = MinEntOptions

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Trains on the segmentation loss of all heads (source) and the entropy of their sum (target)."""
        loss_seg = self.supervise(self.logits(batch.source), batch.source.labels)
        backward(loss_seg)
        loss_entropy = mean_entropy(class_probabilities(paddle.add_n(list(self.logits(batch.target)))))
        loss_entropy = self.options.lambda_entropy * self.damping(progress) * loss_entropy
        backward(loss_entropy)
        return {"loss_seg": loss_seg, "loss_entropy": loss_entropy}
