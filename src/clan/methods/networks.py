"""Networks by role: what the engine does with a network follows from what it is for."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import paddle
from paddle import Tensor, nn

from clan.core import fused
from clan.core.errors import ConfigError
from clan.models.segmenter import batch_norms


class Role(Enum):
    """What a network of a method is for.

    All networks are in the states. Gradients are averaged over the ranks where a role is trained, running statistics
    where it keeps them.
    """

    STUDENT = "student"
    """Trained by the segmenter's optimizer; batch norms as `network.batch_norm` says."""
    DISCRIMINATOR = "discriminator"
    """Trained by an optimizer of its own; saved beside the weights as NAME_D."""
    TEACHER = "teacher"
    """Never trained; batch norms as the student's, everything else, such as dropout, as in evaluation."""
    REFERENCE = "reference"
    """Never changed, and in eval mode: what a trained network is compared with."""

    @property
    def trained(self) -> bool:
        """Whether gradients are computed for it."""
        return self in (Role.STUDENT, Role.DISCRIMINATOR)

    @property
    def keeps_statistics(self) -> bool:
        """Whether its batch norms normalise by the batch and keep running statistics."""
        return self in (Role.STUDENT, Role.TEACHER)


@dataclass(frozen=True)
class Network:
    """A layer and its role."""

    layer: nn.Layer
    role: Role

    def set_training_mode(self, *, frozen_statistics: bool) -> None:
        """Puts the layer into the mode in which its role takes part in training.

        Args:
            frozen_statistics: batch norms normalise by their running statistics and leave them as they are.
        """
        self.layer.train() if self.role.trained else self.layer.eval()
        for norm in batch_norms(self.layer):
            norm.training = self.role.keeps_statistics and not frozen_statistics

    def running_statistics(self) -> list[Tensor]:
        """Means and variances of its batch norms, those of the source among them where it has its own."""
        state = self.layer.state_dict()
        return [tensor for name, tensor in state.items() if name.endswith(STATISTICS)]


STATISTICS = ("_mean", "_variance")
"""What names of running statistics end in."""


def duplicate(network: nn.Layer) -> nn.Layer:
    """A network of the same shape and weights, for which no gradients are computed."""
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.stop_gradient = True
    return other


def assign(network: nn.Layer, source: nn.Layer) -> None:
    """Gives a network another one's parameters and buffers, where both have them."""
    theirs = source.state_dict()
    for name, tensor in network.state_dict().items():
        if name in theirs:
            tensor.set_value(theirs[name])


def follow(average: nn.Layer, network: nn.Layer, decay: float, *, statistics: bool = False) -> None:
    """θ' ← decay·θ' + (1 − decay)·θ.

    Args:
        average: θ', a layer of the same shape.
        network: θ.
        decay: 0…1.
        statistics: average running statistics too; otherwise they stay.
    """
    theirs = dict(network.named_parameters())
    own = [one for one in average.named_parameters() if statistics or not one[0].endswith(STATISTICS)]
    fused.blend([parameter for _, parameter in own], [theirs[name] for name, _ in own], decay, 1.0 - decay)


def synchronise_batch_norms(networks: Mapping[str, Network]) -> None:
    """Makes batch norms that keep statistics normalise by the batches of all ranks together.

    Raises:
        ConfigError: this process computes on the CPU.
    """
    if paddle.device.get_device() == "cpu":
        raise ConfigError("--sync-batch-norm needs GPUs, since Paddle has it for them alone: leave it out on the CPU")
    for network in networks.values():
        if network.role.keeps_statistics:
            before = batch_norms(network.layer)
            nn.SyncBatchNorm.convert_sync_batchnorm(network.layer)
            # Paddle makes new layers that share parameters and running statistics, and forgets everything else.
            for old, new in zip(before, batch_norms(network.layer), strict=True):
                new.training = old.training
                for name, buffer in old._buffers.items():
                    new.register_buffer(name, buffer)
