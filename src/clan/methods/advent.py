"""ADVENT: entropy of the target's predictions, minimised directly or adversarially (Vu et al., CVPR 2019).

Weights default to those of the authors' published configuration, 0.001 each, without its auxiliary output.
"""

import paddle
from paddle import Tensor

from clan.losses.entropy import mean_entropy, self_information
from clan.losses.probability import class_probabilities
from clan.methods.adaptsegnet import AdaptSegNet, Logits
from clan.methods.base import Backward, Method, Pair, Progress
from clan.run.method_options import AdvEntOptions, MinEntOptions


class AdvEnt(AdaptSegNet):
    """The discriminator takes weighted self-information, which source-like predictions have little of."""

    options_type = AdvEntOptions

    def view(self, logits: Logits) -> Tensor:
        """Maps of −p log p, [B, C, H, W]."""
        return self_information(super().view(logits))


class MinEnt(Method):
    """The target's entropy is one more loss; there is no discriminator."""

    options_type = MinEntOptions

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """The segmentation loss of both heads on the source, the entropy of their sum on the target."""
        loss_seg = self.supervise(self.logits(batch.source), batch.source.labels)
        backward(loss_seg)
        loss_entropy = mean_entropy(class_probabilities(paddle.add_n(list(self.logits(batch.target)))))
        loss_entropy = self.options.lambda_entropy * self.damping(progress) * loss_entropy
        backward(loss_entropy)
        return {"loss_seg": loss_seg, "loss_entropy": loss_entropy}
