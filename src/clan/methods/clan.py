"""CLAN: adversarial loss weighted by the disagreement of two co-trained heads (Luo et al., CVPR 2019).

The formulas are in docs/method.md.
"""

from paddle import Tensor

from clan.losses.adversarial import (
    SOURCE,
    TARGET,
    adaptive_weight,
    adversarial_loss,
    discrepancy_map,
    weight_divergence,
)
from clan.losses.segmentation import class_probabilities
from clan.losses.self_training import pseudo_labels
from clan.methods.base import Backward, Domain, Method, Pair, Progress, Role, frozen
from clan.models.discriminator import Discriminator
from clan.models.segmenter import Segmenter, own_weights, upsample
from clan.run.config import Config
from clan.run.method_options import ClanOptions


class CLAN(Method):
    """Category-level adversarial adaptation; the discriminator reads class probabilities at base size."""

    options_type = ClanOptions
    options: ClanOptions
    fewest_heads = 2

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        super().__init__(segmenter, config, class_weights)
        judge = Discriminator(config.network.num_classes, config.network.discriminator_width)
        self.discriminator = self.add("discriminator", judge, Role.DISCRIMINATOR)

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Trains the segmenter, then the discriminator on the same probabilities, detached."""
        options = self.options
        damping = self.damping(progress)

        logits1, logits2 = self.logits(batch.source)
        loss_seg = self.supervise((logits1, logits2), batch.source.labels)
        backward(loss_seg)
        prob_source = class_probabilities((logits1 + logits2).detach())

        logits1, logits2 = self.logits(batch.target)
        prob_target = class_probabilities(logits1 + logits2)
        weight = self._adaptive_weight(logits1, logits2) if progress.iteration > progress.warmup else None
        with frozen(self.discriminator):
            loss_adv = adversarial_loss(self._judge(prob_target, batch.target), SOURCE, weight)
            loss_adv = options.lambda_adv * damping * loss_adv
            loss_self = self._self_training(logits1, logits2, prob_target.detach(), progress)
            backward(loss_adv if loss_self is None else loss_adv + loss_self)
        loss_weight = weight_divergence(*map(own_weights, self.segmenter.heads))
        loss_weight = options.weight_multiplier * options.lambda_weight * damping * loss_weight
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
        } | ({} if loss_self is None else {"loss_self": loss_self})

    def judge(self, domain: Domain) -> dict[str, Tensor]:
        """Returns the discriminator's logits of the heads' sum; see `Method.judge`."""
        logits1, logits2 = self.logits(domain)
        return {"discriminator": self._judge(class_probabilities(logits1 + logits2), domain)}

    def _adaptive_weight(self, logits1: Tensor, logits2: Tensor) -> Tensor:
        discrepancy = discrepancy_map(class_probabilities(logits1), class_probabilities(logits2))
        return adaptive_weight(discrepancy, epsilon=self.options.epsilon, lambda_local=self.options.lambda_local)

    def _self_training(self, logits1: Tensor, logits2: Tensor, prob: Tensor, progress: Progress) -> Tensor | None:
        """Returns the weighted loss on pseudo-labels of the target, or None before `self_training_start`."""
        options = self.options
        if options.lambda_self == 0 or progress.fraction < options.self_training_start:
            return None
        labels = pseudo_labels(prob, share=options.self_training_share)
        return options.lambda_self * self.supervise((logits1, logits2), labels)

    def _judge(self, prob: Tensor, domain: Domain) -> Tensor:
        """Returns the discriminator's logits at base size, float32 [B, 1, H, W]."""
        return upsample(self.discriminator(prob), domain.size)
