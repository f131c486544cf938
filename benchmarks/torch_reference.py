"""CLAN in plain PyTorch: the reference for the project's speed and memory.

The official segmenter, discriminator, losses, optimizers and order of operations in idiomatic PyTorch: eager mode,
float32, contiguous tensors, default threads. It imports nothing from `clan`, so that it is an independent check too.

    python benchmarks/torch_reference.py --check

compares it with the recorded outputs of the official code in ../shared/golden.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = 255
SOURCE, TARGET = 0.0, 1.0  # the discriminator's answers


# --- Networks -----------------------------------------------------------------------------------------------


def frozen_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm whose γ and β are never trained; its statistics still follow the training mode."""
    return nn.BatchNorm2d(channels).requires_grad_(False)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a shortcut; as in Caffe, the stride sits in the first 1×1."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, project: bool):
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride=stride, bias=False)
        self.bn1 = frozen_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = frozen_norm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = frozen_norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if project:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, frozen_norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)


def stage(blocks: int, in_channels: int, width: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """`blocks` bottlenecks, of which the first changes the shape."""
    first = Bottleneck(in_channels, width, stride, dilation, project=True)
    rest = (Bottleneck(4 * width, width, 1, dilation, project=False) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class Head(nn.Module):
    """The sum of four dilated 3×3 convolutions: DeepLab-v2's atrous spatial pyramid."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate) for rate in (6, 12, 18, 24)
        )

    def forward(self, x: Tensor) -> Tensor:
        return sum(conv(x) for conv in self.conv2d_list)


class Segmenter(nn.Module):
    """ResNet-101 at output stride 8 with two heads: images [B,3,H,W] → two logits [B,C,~H/8,~W/8]."""

    def __init__(self, classes: int = 19):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = frozen_norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.layer1 = stage(3, 64, 64)
        self.layer2 = stage(4, 256, 128, stride=2)
        self.layer3 = stage(23, 512, 256, dilation=2)
        self.layer4 = stage(3, 1024, 512, dilation=4)
        self.layer5 = Head(2048, classes)
        self.layer6 = Head(2048, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.layer5(x), self.layer6(x)


class Discriminator(nn.Module):
    """Class probabilities [B,C,H,W] → one domain logit per 32×32 patch, [B,1,H/32,W/32]."""

    def __init__(self, classes: int = 19):
        super().__init__()
        self.conv1 = nn.Conv2d(classes, 64, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(128, 256, 4, stride=2, padding=1)
        self.conv4 = nn.Conv2d(256, 512, 4, stride=2, padding=1)
        self.classifier = nn.Conv2d(512, 1, 4, stride=2, padding=1)
        self.leaky_relu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = self.leaky_relu(conv(x))
        return self.classifier(x)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize to (height, width), corners aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


# --- Losses -------------------------------------------------------------------------------------------------


def focal_loss(logits_BCHW: Tensor, labels_BHW: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean over the valid pixels of −(1−p)^γ log p, p being the probability of the true class."""
    surprise = F.cross_entropy(logits_BCHW, labels_BHW, ignore_index=IGNORE, reduction="none")
    valid = labels_BHW != IGNORE
    p = torch.exp(-surprise).clamp(1e-9, 1 - 1e-9)
    loss = -((1 - p) ** gamma) * torch.log(p)
    return (loss * valid).sum() / valid.sum().clamp(min=1)


def discrepancy_map(logits1_BCHW: Tensor, logits2_BCHW: Tensor) -> Tensor:
    """M = 1 − cosine of the two heads' class probabilities at each pixel, [B,1,H,W]."""
    p1, p2 = logits1_BCHW.softmax(dim=1), logits2_BCHW.softmax(dim=1)
    return 1 - F.cosine_similarity(p1, p2, dim=1).unsqueeze(1)


def adversarial_loss(domain_logits: Tensor, domain: float, weight: Tensor | float = 1.0) -> Tensor:
    """Mean of a·BCE(D, domain). The weight a may carry a gradient, which F's own `weight` would drop."""
    answer = torch.full_like(domain_logits, domain)
    return (weight * F.binary_cross_entropy_with_logits(domain_logits, answer, reduction="none")).mean()


def weight_divergence(head1: nn.Module, head2: nn.Module) -> Tensor:
    """1 + cosine of all the weights of two heads: 0 when they point in opposite directions."""
    w1, w2 = (torch.cat([p.flatten() for p in head.parameters()]) for head in (head1, head2))
    return 1 + F.cosine_similarity(w1, w2, dim=0)


# --- Optimization -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The official hyper-parameters, SYNTHIA → Cityscapes (GTA5: lambda_local=40)."""

    steps: int = 100_000
    warmup: int = 5_000
    learning_rate: float = 2.5e-4
    learning_rate_D: float = 1e-4
    lambda_weight: float = 0.01
    lambda_adv: float = 0.001
    lambda_local: float = 10.0
    epsilon: float = 0.4
    repeated_updates: bool = False

    def schedule(self, base: float, iteration: int) -> float:
        """Linear warm-up from 0, then polynomial decay."""
        if iteration < self.warmup:
            return base * iteration / self.warmup
        return base * (1 - iteration / self.steps) ** 0.9


def parameter_groups(segmenter: Segmenter) -> Iterator[dict]:
    """What is trained, with its share of the learning rate and the official number of visits per step."""
    trained = [(name, p) for name, p in segmenter.named_parameters() if p.requires_grad]

    def group(belongs: Callable[[str], bool], rate: float, visits: int) -> dict:
        return {"params": [p for name, p in trained if belongs(name)], "rate": rate, "visits": visits}

    heads, backbone = ("layer5.", "layer6."), ("layer1.", "layer2.", "layer3.", "layer4.")
    yield group(lambda name: name.startswith("conv1."), rate=1.0, visits=1)
    yield group(lambda name: name.startswith(backbone) and ".downsample." not in name, rate=1.0, visits=3)
    yield group(lambda name: ".downsample." in name, rate=1.0, visits=4)
    yield group(lambda name: name.startswith(heads), rate=10.0, visits=1)


class RepeatedSGD(torch.optim.Optimizer):
    """SGD as PyTorch 1.0 ran it over the official list, which names most tensors several times.

    Every visit is a whole update, and adds the decay to the gradient in place, so that it accumulates.
    """

    def __init__(self, groups: Iterator[dict], lr: float, momentum: float, weight_decay: float):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["velocity"] = torch.zeros_like(p)
                velocity = state["velocity"]
                for _ in range(group["visits"]):
                    p.grad.add_(p, alpha=group["weight_decay"])
                    velocity.mul_(group["momentum"]).add_(p.grad)
                    p.sub_(velocity, alpha=group["lr"])


# --- One training step --------------------------------------------------------------------------------------


class TrainingStep:
    """One iteration of the official loop, in its order: both networks learn, the five losses come back."""

    def __init__(self, segmenter: Segmenter, discriminator: Discriminator, settings: Settings):
        self.segmenter, self.discriminator, self.settings = segmenter.train(), discriminator.train(), settings
        sgd = RepeatedSGD if settings.repeated_updates else torch.optim.SGD
        groups = parameter_groups(segmenter)
        self.optimizer = sgd(groups, lr=settings.learning_rate, momentum=0.9, weight_decay=5e-4)
        self.optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=settings.learning_rate_D, betas=(0.9, 0.99))

    def __call__(self, iteration: int, source: Tensor, labels: Tensor, target: Tensor) -> dict[str, float]:
        """Images [B,3,H,W] of the two domains and the source's labels [B,H,W], int64, 255 = ignore."""
        self.prepare_optimizers(iteration)
        losses, outputs = self.segmenter_turn(iteration, source, labels, target)
        losses |= self.discriminator_turn(*(output.detach() for output in outputs))
        self.optimizer.step()
        self.optimizer_D.step()
        return {name: loss.item() for name, loss in losses.items()}

    def prepare_optimizers(self, iteration: int) -> None:
        """Clear the gradients and set the learning rates."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * settings.schedule(settings.learning_rate, iteration)
        for group in self.optimizer_D.param_groups:
            group["lr"] = settings.schedule(settings.learning_rate_D, iteration)
        self.optimizer.zero_grad()
        self.optimizer_D.zero_grad()

    def segmenter_turn(
        self, iteration: int, source: Tensor, labels: Tensor, target: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """Learn to segment the source and to fool the discriminator on the target.

        Returns the losses, and what the discriminator's turn needs: the summed logits of source and
        target, and the adversarial weight.
        """
        settings, damping = self.settings, 1 - iteration / self.settings.steps
        self.discriminator.requires_grad_(False)

        source1, source2 = self.segment(source, labels.shape[-2:])
        loss_seg = focal_loss(source1, labels) + focal_loss(source2, labels)
        loss_seg.backward()

        target1, target2 = self.segment(target, target.shape[-2:])
        weight = torch.ones(())
        if iteration > settings.warmup:
            weight = settings.epsilon + settings.lambda_local * discrepancy_map(target1, target2)
        loss_adv = adversarial_loss(self.judge(target1 + target2), SOURCE, weight)
        loss_adv = settings.lambda_adv * damping * loss_adv
        loss_adv.backward()

        loss_weight = weight_divergence(self.segmenter.layer5, self.segmenter.layer6)
        loss_weight = 2 * settings.lambda_weight * damping * loss_weight  # the 2 is the official code's
        loss_weight.backward()

        losses = {"loss_seg": loss_seg, "loss_adv": loss_adv, "loss_weight": loss_weight}
        return losses, (source1 + source2, target1 + target2, weight)

    def discriminator_turn(self, source: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Learn to tell the domains apart. Softmax and D run anew on the target, as in the official code."""
        self.discriminator.requires_grad_(True)
        loss_source = adversarial_loss(self.judge(source), SOURCE)
        loss_source.backward()
        loss_target = adversarial_loss(self.judge(target), TARGET, weight)
        loss_target.backward()
        return {"loss_D_s": loss_source, "loss_D_t": loss_target}

    def segment(self, images: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Both heads' logits at `size`."""
        logits1, logits2 = self.segmenter(images)
        return upsample(logits1, size), upsample(logits2, size)

    def judge(self, logits: Tensor) -> Tensor:
        """The discriminator's logit for every pixel of the summed logits."""
        return upsample(self.discriminator(logits.softmax(dim=1)), logits.shape[-2:])


@torch.inference_mode()
def predict(segmenter: Segmenter, images: Tensor) -> Tensor:
    """The heads' summed logits [B,C,~H/8,~W/8] of a network in eval mode."""
    logits1, logits2 = segmenter(images)
    return logits1 + logits2


# --- Check against the official code's recorded outputs -----------------------------------------------------

SHARED = Path(__file__).resolve().parents[2] / "shared"  # beside the repository
TOLERANCE = 2e-5  # of the largest value; the float32 noise of a 101-layer network


def report(name: str, ours: Tensor, golden: np.ndarray) -> bool:
    """Print the largest difference, relative to the largest golden value, and say whether it is noise."""
    ours, golden = ours.detach().double(), torch.as_tensor(golden).double()
    difference = ((ours - golden).abs().max() / golden.abs().max()).item()
    ok = difference <= TOLERANCE  # False for NaN
    print(f"{'ok  ' if ok else 'FAIL'} {name:<24} {difference:.1e}")
    return ok


def with_weights(network: nn.Module, arrays: dict[str, np.ndarray]) -> nn.Module:
    """`network` with these parameters and statistics, all of them."""
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return network


def check_networks(golden: dict[str, np.ndarray], golden_state: Callable) -> Iterator[bool]:
    """Both networks with golden parameters, forward, in eval and in train mode."""
    segmenter = with_weights(Segmenter(), golden_state("segmenter", 11))
    discriminator = with_weights(Discriminator(), golden_state("discriminator", 11))
    image = torch.from_numpy(golden["image"])
    with torch.no_grad():
        for mode in ("eval", "train"):
            logits = segmenter.train(mode == "train")(image)
            for k in (1, 2):
                yield report(f"{mode}{k}", logits[k - 1], golden[f"{mode}{k}"])
        probability = torch.from_numpy(golden["probability"])
        yield report("discriminator", discriminator(probability), golden["discriminator"])
    last_norm = segmenter.layer4[-1].bn3
    yield report("bn1_running_mean", segmenter.bn1.running_mean, golden["bn1_running_mean"])
    yield report("bn1_running_var", segmenter.bn1.running_var, golden["bn1_running_var"])
    yield report("layer4_bn_running_var", last_norm.running_var, golden["layer4_bn_running_var"])


def check_losses(golden: dict[str, np.ndarray], golden_state: Callable) -> Iterator[bool]:
    """Every loss and its gradients on given logits."""
    labels = torch.from_numpy(golden["label"]).long()

    def leaf(name: str) -> Tensor:
        return torch.from_numpy(golden[name]).requires_grad_()

    for name, gamma in {"focal": 2.0, "ce": 0.0}.items():
        logits = leaf("logits1")
        loss = focal_loss(logits, labels, gamma)
        loss.backward()
        yield report(name, loss, golden[name])
        yield report(f"{name}_grad", logits.grad, golden[f"{name}_grad"])
    for name, domain in {"adv_source": SOURCE, "adv_target": TARGET}.items():
        inputs = {"logits1": leaf("logits1"), "logits2": leaf("logits2"), "d": leaf("d_logits")}
        weight_map = discrepancy_map(inputs["logits1"], inputs["logits2"])
        weight = float(golden["epsilon"]) + float(golden["lambda_local"]) * weight_map
        loss = adversarial_loss(inputs["d"], domain, weight)
        loss.backward()
        yield report(f"{name}: weight_map", weight_map, golden["weight_map"])
        yield report(name, loss, golden[name])
        for key, x in inputs.items():
            yield report(f"{name}_grad_{key}", x.grad, golden[f"{name}_grad_{key}"])
    segmenter = with_weights(Segmenter(), golden_state("segmenter", 11))
    loss = weight_divergence(segmenter.layer5, segmenter.layer6)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in segmenter.layer5.parameters()])
    yield report("weight_discrepancy", loss, golden["weight_discrepancy"])
    recorded = golden["weight_discrepancy_grad5_head"]
    yield report("weight_discrepancy_grad5", gradient[: len(recorded)], recorded)


def check() -> bool:
    """Compare with everything recorded; True when all of it agrees."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        sys.exit(f"No recorded outputs to check against: {folder} does not exist.")
    golden_state = runpy.run_path(str(folder / "weights.py"))["golden_state"]
    networks, losses = (dict(np.load(folder / f"{name}_dev.npz")) for name in ("forward", "losses"))
    return all([*check_networks(networks, golden_state), *check_losses(losses, golden_state)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", required=True, help="compare with ../shared/golden")
    parser.parse_args()
    sys.exit(0 if check() else 1)
