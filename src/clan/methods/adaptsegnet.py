"""AdaptSegNet: adversarial alignment of output space, at one level or two (Tsai et al., CVPR 2018).

With one level this is CLAN without the adaptive weight and the weight divergence, the baseline of its paper. As in all
methods, the main output is the sum of both heads. Default weights are those of the authors' published commands: 0.001
for the main output; 0.0002, and 0.1 for the segmentation loss, for the auxiliary one. The authors use no damping:
`--method.no-damping`.
"""

import paddle
from paddle import Tensor

from clan.losses.adversarial import SOURCE, TARGET, adversarial_loss
from clan.losses.segmentation import class_probabilities
from clan.methods.base import Backward, Domain, Method, Pair, Progress, Role, frozen
from clan.models.discriminator import Discriminator
from clan.models.segmenter import Segmenter, upsample
from clan.run.config import Config
from clan.run.method_options import AdaptSegNetMultiOptions, AdaptSegNetOptions

Logits = tuple[Tensor, ...]
"""Logits of every head of one level, float32 [B, C, H, W] each, at base size."""


class AdaptSegNet(Method):
    """One discriminator on the class probabilities of the heads' sum, at base size."""

    options_type = AdaptSegNetOptions
    LEVELS: tuple[str, ...] = ("",)
    """Suffixes of the names of each level's losses and discriminator."""

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        super().__init__(segmenter, config, class_weights)
        classes, width = config.network.num_classes, config.network.discriminator_width
        for level in self.LEVELS:
            self.add(f"discriminator{level}", Discriminator(classes, width), Role.DISCRIMINATOR)
        self.lambda_seg = {"": 1.0}
        self.lambda_adv = {"": self.options.lambda_adv}

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Trains the segmenter, then each discriminator on the same outputs."""
        source = self.outputs(batch.source)
        losses = {
            f"loss_seg{level}": self.lambda_seg[level] * self.supervise(logits, batch.source.labels)
            for level, logits in source.items()
        }
        backward(paddle.add_n(list(losses.values())))
        source = {level: self.view(tuple(head.detach() for head in logits)) for level, logits in source.items()}

        target = {level: self.view(logits) for level, logits in self.outputs(batch.target).items()}
        damping = self.damping(progress)
        with frozen(*self.discriminators.values()):
            adversarial = {
                f"loss_adv{level}": self.lambda_adv[level]
                * damping
                * adversarial_loss(self._judge(level, seen, batch.target), SOURCE)
                for level, seen in target.items()
            }
            backward(paddle.add_n(list(adversarial.values())))
        losses |= adversarial

        for level in self.LEVELS:
            loss_D_s = adversarial_loss(self._judge(level, source[level], batch.source), SOURCE)
            backward(loss_D_s)
            loss_D_t = adversarial_loss(self._judge(level, target[level].detach(), batch.target), TARGET)
            backward(loss_D_t)
            losses |= {f"loss_D_s{level}": loss_D_s, f"loss_D_t{level}": loss_D_t}
        return losses

    def outputs(self, domain: Domain) -> dict[str, Logits]:
        """Returns the logits by level."""
        return {"": self.logits(domain)}

    def judge(self, domain: Domain) -> dict[str, Tensor]:
        """Returns each discriminator's logits of the `view` of its level; see `Method.judge`."""
        return {
            f"discriminator{level}": self._judge(level, self.view(logits), domain)
            for level, logits in self.outputs(domain).items()
        }

    def view(self, logits: Logits) -> Tensor:
        """Returns the discriminator's input for a level, float32 [B, C, H, W]."""
        return class_probabilities(paddle.add_n(list(logits)))

    def _judge(self, level: str, seen: Tensor, domain: Domain) -> Tensor:
        """Returns a discriminator's logits at base size, float32 [B, 1, H, W]."""
        return upsample(self.discriminators[f"discriminator{level}"](seen), domain.size)


class AdaptSegNetMulti(AdaptSegNet):
    """A second discriminator on an auxiliary head, which reads the backbone's third level."""

    options_type = AdaptSegNetMultiOptions
    LEVELS = ("", "_aux")
    has_auxiliary_head = True

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        super().__init__(segmenter, config, class_weights)
        self.lambda_seg["_aux"] = self.options.lambda_seg_aux
        self.lambda_adv["_aux"] = self.options.lambda_adv_aux

    def outputs(self, domain: Domain) -> dict[str, Logits]:
        """Returns the logits of the main heads, and of the auxiliary one."""
        *main, auxiliary = self.all_logits(domain)
        return {"": tuple(main), "_aux": (auxiliary,)}
