"""CLAN: two co-trained heads, and a discriminator that pushes harder where they disagree (CVPR 2019)."""

from functools import partial

from paddle import Tensor

from clan.config import LossConfig
from clan.losses.adversarial import SOURCE, TARGET, adaptive_weight, adversarial_loss, discrepancy_map
from clan.losses.divergence import weight_divergence
from clan.losses.probability import class_probabilities
from clan.losses.segmentation import segmentation_loss
from clan.methods.base import Backward, Domain, Method, Pair, Progress, frozen
from clan.models.deeplab import Segmenter, upsample
from clan.models.discriminator import Discriminator


class CLAN(Method):
    """Category-level adversarial adaptation.

    Args:
        segmenter: trunk and two heads.
        discriminator: takes class probabilities at base size.
        loss: weights and shapes of the losses.
        ignore_label: the trainId that takes part in no loss.
    """

    def __init__(
        self, segmenter: Segmenter, discriminator: Discriminator, *, loss: LossConfig, ignore_label: int
    ) -> None:
        self.segmenter = segmenter
        self.discriminator = discriminator
        self.discriminators = {"discriminator": discriminator}
        self.loss = loss
        self.segmentation_loss = partial(segmentation_loss, gamma=loss.gamma, ignore_label=ignore_label)

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """The segmenter's turn, then the discriminator's on the same probabilities (SPEC section 3)."""
        loss = self.loss
        damping = 1.0 - progress.fraction if loss.damping else 1.0

        logits1, logits2 = self.logits(batch.source)
        loss_seg = self.segmentation_loss(logits1, batch.source.labels)
        loss_seg = loss_seg + self.segmentation_loss(logits2, batch.source.labels)
        backward(loss_seg)
        prob_source = class_probabilities((logits1 + logits2).detach())

        logits1, logits2 = self.logits(batch.target)
        prob_target = class_probabilities(logits1 + logits2)
        weight = self._adaptive_weight(logits1, logits2) if progress.iteration > progress.warmup else None
        with frozen(self.discriminator):
            loss_adv = adversarial_loss(self._judge(prob_target, batch.target), SOURCE, weight)
            loss_adv = loss.lambda_adv * damping * loss_adv
            backward(loss_adv)
        loss_weight = weight_divergence(self.segmenter.head1.parameters(), self.segmenter.head2.parameters())
        loss_weight = loss.weight_multiplier * loss.lambda_weight * damping * loss_weight
        backward(loss_weight)

        loss_D_s = adversarial_loss(self._judge(prob_source, batch.source), SOURCE)
        backward(loss_D_s)
        weight = None if weight is None else weight.detach()
        loss_D_t = adversarial_loss(self._judge(prob_target.detach(), batch.target), TARGET, weight)
        backward(loss_D_t)
        return {
            "loss_seg": loss_seg,
            "loss_adv": loss_adv,
            "loss_weight": loss_weight,
            "loss_D_s": loss_D_s,
            "loss_D_t": loss_D_t,
        }

    def _adaptive_weight(self, logits1: Tensor, logits2: Tensor) -> Tensor:
        discrepancy = discrepancy_map(class_probabilities(logits1), class_probabilities(logits2))
        return adaptive_weight(discrepancy, epsilon=self.loss.epsilon, lambda_local=self.loss.lambda_local)

    def _judge(self, prob: Tensor, domain: Domain) -> Tensor:
        """The discriminator's logits at base size, [B, 1, H, W]."""
        return upsample(self.discriminator(prob), domain.size)
