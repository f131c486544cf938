"""Self-training with a teacher: what DACS, DAFormer and MIC share; docs/method.md has the formulas."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import paddle
from paddle import Tensor

from clan.losses.mixing import class_mask, mix
from clan.losses.segmentation import class_probabilities
from clan.losses.self_training import pseudo_weight, teacher_decay, teacher_labels
from clan.methods.base import Backward, Domain, LabelledDomain, Method, Pair, Progress, Role, assign, duplicate, follow
from clan.methods.draws import ColorScale, Distortion, draw_classes, draw_distortion
from clan.models.segmenter import Segmenter, upsample
from clan.run.config import Config


@dataclass(frozen=True)
class Draws:
    """Everything random in a step.

    Args:
        classes: for each image the trainIds whose pixels the mixture takes from the source.
        mixed: distortion of the mixed images.
        masked: distortion of the masked images; None: there are none.
        blocks: a uniform draw for each block of these, float32 [B, 1, h, w].
    """

    classes: tuple[tuple[int, ...], ...]
    mixed: Distortion
    masked: Distortion | None = None
    blocks: np.ndarray | None = None


@dataclass(frozen=True)
class Weighted(LabelledDomain):
    """Images with labels that count more or less.

    Args:
        weight: float32 [B, H, W], 0…1.
    """

    weight: Tensor


class SelfTraining(Method):
    """A teacher, an average of the student, labels the target; the student learns from source and mixtures."""

    clamps_probabilities: ClassVar[bool] = False
    classes_of_batch: ClassVar[bool] = True
    """Whether each image's mixture draws among the classes of the whole batch."""

    def __init__(self, segmenter: Segmenter, config: Config, class_weights: Tensor | None = None) -> None:
        super().__init__(segmenter, config, class_weights)
        teacher = duplicate(segmenter)
        assert isinstance(teacher, Segmenter)
        self.teacher = self.add("teacher", teacher, Role.TEACHER)
        self.exports = "teacher" if self.options.export == "teacher" else "segmenter"
        normalizations = [config.network.normalization(domain.dataset) for domain in (config.source, config.target)]
        self.same_scale = normalizations[0] == normalizations[1]
        self.source_scale, self.target_scale = map(ColorScale.of, normalizations)
        self.frozen_statistics = config.network.batch_norm == "frozen"

    @property
    def compared(self) -> dict[str, Segmenter]:
        """The network that is not saved, if both are to be validated."""
        if not self.options.validate_both:
            return {}
        return {"student": self.segmenter} if self.exports == "teacher" else {"teacher": self.teacher}

    def pseudo_labels(self, target: Domain) -> Tensor:
        """Returns ŷ; the teacher's running statistics move as in a step."""
        return self.label(target)[0].labels

    def on_weights_loaded(self) -> None:
        """Gives the teacher the student's running statistics where they stay; otherwise its own move from the start.

        Its parameters are the student's after `before_step` of iteration 0.
        """
        if self.frozen_statistics:
            assign(self.teacher, self.segmenter)

    def before_step(self, iteration: int) -> None:
        """θ' ← α_i θ' + (1 − α_i) θ, in iteration 0 θ' ← θ; running statistics move by themselves."""
        follow(self.teacher, self.segmenter, teacher_decay(iteration, self.options.teacher_decay))

    def train_step(self, batch: Pair, progress: Progress, backward: Backward) -> dict[str, Tensor]:
        """Trains on the source, then on what is made of the target and the teacher's labels for it."""
        draws = self.draw(batch)
        losses = self.source_losses(self.supervised(batch.source, draws))
        backward(paddle.add_n(list(losses.values())))
        pseudo, share = self.label(batch.target)
        self.views = {"source": batch.source.images, "source_labels": batch.source.labels}
        self.views |= {"target": pseudo.images, "pseudo_labels": pseudo.labels}
        for name, loss in self.target_losses(batch.source, pseudo, draws):
            backward(loss)
            losses[name] = loss
        return losses | {"pseudo_share": share}

    def draw(self, batch: Pair) -> Draws:
        """Draws what the step needs; nothing is read from the device."""
        options, count = self.options, batch.target.images.shape[0]
        classes = draw_classes(batch.random, batch.source.labels_on_host(), of_batch=self.classes_of_batch)
        return Draws(classes, draw_distortion(batch.random, count, [options.color_jitter] * 4, blurs=options.blur))

    def supervised(self, source: LabelledDomain, draws: Draws) -> LabelledDomain:
        """Returns the source as it is supervised: as it is."""
        return source

    def source_losses(self, source: LabelledDomain) -> dict[str, Tensor]:
        """Returns L_s by name."""
        return {"loss_seg": self.supervise(self.logits(source), source.labels, mean_over="pixels")}

    @paddle.no_grad()
    def label(self, target: Domain) -> tuple[Weighted, Tensor]:
        """Returns the target with the teacher's labels ŷ and their weight w, and the share q."""
        prob = self.teacher_probabilities(target.images, target.size)
        labels, share = teacher_labels(prob, threshold=self.options.confidence)
        weight = pseudo_weight(share, labels.shape, top=self.options.ignore_top, bottom=self.options.ignore_bottom)
        return Weighted(target.images, target.size, labels, weight), share

    def teacher_probabilities(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the teacher's class probabilities at base size, float32 [B, C, H, W]."""
        return class_probabilities(self.teacher.resize(paddle.add_n(list(self.teacher(images))), size))

    def target_losses(self, source: LabelledDomain, pseudo: Weighted, draws: Draws) -> Iterator[tuple[str, Tensor]]:
        """Yields the names and values of losses with the teacher's labels, each computed when the last is done with."""
        mixed = self.mix(source, pseudo, draws)
        self.views |= {"mixed": mixed.images, "mixed_labels": mixed.labels}
        yield "loss_mix", self.supervise_weighted(mixed)

    def supervise_weighted(self, domain: Weighted, **options: Any) -> Tensor:
        """Returns CE(θ(x), y; w); `options` are further arguments of the backbone."""
        return self.supervise(
            self.logits(domain, **options), domain.labels, weight_BHW=domain.weight, mean_over="pixels"
        )

    @paddle.no_grad()
    def mix(self, source: LabelledDomain, pseudo: Weighted, draws: Draws) -> Weighted:
        """Returns x_m, y_m and w_m: the source on the pixels of the classes drawn, the target on all others."""
        mask = class_mask(source.labels, draws.classes)
        images = mix(mask, at_base_size(source), at_base_size(pseudo))
        scale = self.target_scale
        if not self.same_scale:
            pairs = ((self.source_scale.mean, scale.mean), (self.source_scale.std, scale.std))
            scale = ColorScale(*(mix(mask, *pair) for pair in pairs))
        return Weighted(
            draws.mixed.apply(images, scale),
            pseudo.size,
            mix(mask, source.labels, pseudo.labels),
            mix(mask, paddle.ones_like(pseudo.weight), pseudo.weight),
        )


def at_base_size(domain: Domain) -> Tensor:
    """Images at the size of their labels, which random scaling alone makes them differ from."""
    if tuple(domain.images.shape[2:]) == domain.size:
        return domain.images
    return upsample(domain.images, domain.size, align_corners=False)
