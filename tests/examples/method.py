"""To add a method: a class, its options, and an entry for each in METHODS and METHOD_OPTIONS."""

import paddle
from paddle import nn

from clan.losses.segmentation import class_probabilities
from clan.methods.base import Method, Role, assign, duplicate, follow
from clan.run.method_options import MethodOptions


class ConsistencyOptions(MethodOptions):
    """Consistency with a mean teacher on masked target images."""

    name = "consistency"

    ema_decay: float = 0.9
    """EMA decay of the teacher."""
    masked_share: float = 0.5
    """Share of the target's pixels that the student does not see."""


class Consistency(Method):
    """On masked target images the student predicts what its EMA teacher does on whole ones."""

    options_type = ConsistencyOptions
    exports = "teacher"

    def __init__(self, segmenter, config, class_weights=None):
        super().__init__(segmenter, config, class_weights)
        self.teacher = self.add("teacher", duplicate(segmenter), Role.TEACHER)
        self.dropout = nn.Dropout(0.3)

    def on_weights_loaded(self):
        assign(self.teacher, self.segmenter)

    def after_step(self, iteration):
        follow(self.teacher, self.segmenter, min(1 - 1 / (iteration + 2), self.options.ema_decay))

    def train_step(self, batch, progress, backward):
        loss_seg = self.supervise([self.dropout(head) for head in self.logits(batch.source)], batch.source.labels)
        backward(loss_seg)
        images = batch.target.images
        with paddle.no_grad():
            wanted = class_probabilities(paddle.add_n(list(self.teacher(images))))
        kept = paddle.to_tensor(batch.random.random(images.shape[2:]) >= self.options.masked_share)
        given = class_probabilities(paddle.add_n(list(self.segmenter(images * kept.astype(images.dtype)))))
        loss_consistency = (given - wanted).square().mean()
        backward(loss_consistency)
        return {"loss_seg": loss_seg, "loss_consistency": loss_consistency}
