"""To add an optimizer: an Optimizer, and an entry in OPTIMIZERS."""

import paddle

from clan.training.optimizers import Optimizer


class Lion(Optimizer):
    """The sign of a momentum, with decoupled weight decay (Chen et al., NeurIPS 2023)."""

    def __init__(self, slots, settings):
        super().__init__(slots, settings)
        self.means = {slot.name: paddle.zeros_like(slot.parameter) for slot in self.slots}

    @paddle.no_grad()
    def step(self, rate):
        beta1, beta2 = self.settings.betas
        for slot in self.slots:
            p, g, mean = slot.parameter, slot.parameter.grad, self.means[slot.name]
            if g is None:
                continue
            direction = paddle.sign(beta1 * mean + (1 - beta1) * g)
            decay = self.settings.weight_decay if slot.decays else 0.0
            p.subtract_(rate * slot.multiplier * (direction + decay * p))
            mean.scale_(beta2).add_((1 - beta2) * g)

    def state_dict(self):
        return dict(self.means)

    def load_state_dict(self, state):
        self.means = {slot.name: paddle.to_tensor(state[slot.name]) for slot in self.slots}
