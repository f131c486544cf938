"""MIC in plain PyTorch: the reference for the speed and memory of self-training.

MiT-B0 or MobileNetV2 at stride 32 with DAFormer's head, the four passes of a step, feature distance, AdamW: idiomatic
PyTorch, eager, float32, contiguous tensors, default threads. Without colour jitter and blur. It imports nothing from
`clan`. Where PyTorch has one call for several operations (attention), it is used.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

THINGS = (6, 7, *range(11, 19))


# --- MiT-B0 -------------------------------------------------------------------------------------------------


class DropPath(nn.Module):
    """Stochastic depth."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), 1, 1) >= self.rate
        return x * (kept / (1 - self.rate))


class Attention(nn.Module):
    """Attention with spatial reduction."""

    def __init__(self, width: int, heads: int, reduction: int):
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        if reduction > 1:
            self.sr, self.norm = nn.Conv2d(width, width, reduction, reduction), nn.LayerNorm(width)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        batch, tokens, channels = x.shape
        query = self.q(x).reshape(batch, tokens, self.heads, -1).transpose(1, 2)
        if self.reduction > 1:
            maps = x.transpose(1, 2).reshape(batch, channels, height, width)
            x = self.norm(self.sr(maps).flatten(2).transpose(1, 2))
        key, value = self.kv(x).reshape(batch, -1, 2, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(batch, tokens, channels))


class MixFFN(nn.Module):
    """Two linear layers around a depthwise convolution."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = self.fc1(x)
        maps = x.transpose(1, 2).reshape(len(x), -1, height, width)
        return self.fc2(F.gelu(self.dwconv(maps).flatten(2).transpose(1, 2)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int, rate: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp, self.drop = Attention(width, heads, reduction), MixFFN(width, 4 * width), DropPath(rate)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x), height, width))
        return x + self.drop(self.mlp(self.norm2(x), height, width))


class MiT(nn.Module):
    """B0."""

    channels = (32, 64, 160, 256)

    def __init__(self) -> None:
        super().__init__()
        rates = iter(np.linspace(0, 0.1, 8).tolist())
        before, stages = 3, []
        for number, width in enumerate(self.channels):
            side, stride = (7, 4) if number == 0 else (3, 2)
            heads, reduction = (1, 2, 5, 8)[number], (8, 4, 2, 1)[number]
            stages.append(
                nn.ModuleDict(
                    {
                        "proj": nn.Conv2d(before, width, side, stride, side // 2),
                        "proj_norm": nn.LayerNorm(width),
                        "blocks": nn.ModuleList(Block(width, heads, reduction, next(rates)) for _ in range(2)),
                        "norm": nn.LayerNorm(width, 1e-6),
                    }
                )
            )
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.stages:
            x = stage["proj"](x)
            batch, channels, height, width = x.shape
            x = stage["proj_norm"](x.flatten(2).transpose(1, 2))
            for block in stage["blocks"]:
                x = block(x, height, width)
            x = stage["norm"](x).transpose(1, 2).reshape(batch, channels, height, width)
            levels.append(x)
        return levels


# --- MobileNetV2 --------------------------------------------------------------------------------------------


def unit(in_channels: int, out_channels: int, side: int = 1, *, active: bool = True, **options: int) -> nn.Sequential:
    """A convolution, batch norm and, if active, ReLU6."""
    conv = nn.Conv2d(in_channels, out_channels, side, padding=side // 2, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([nn.ReLU6(inplace=True)] if active else []))


class InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        inner = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            *([unit(in_channels, inner)] if expansion > 1 else []),
            unit(inner, inner, 3, stride=stride, groups=inner),
            unit(inner, out_channels, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV2(nn.Module):
    """At its native stride 32."""

    channels = (24, 32, 96, 1280)

    def __init__(self) -> None:
        super().__init__()
        layers, before = [unit(3, 32, 3, stride=2)], 32
        for expansion, channels, blocks, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for block in range(blocks):
                layers.append(InvertedResidual(before, channels, expansion, stride if block == 0 else 1))
                before = channels
        self.layers = nn.ModuleList([*layers, unit(320, 1280)])
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.requires_grad_(False)  # as in this project's segmenters

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x)
            if number in (4, 7, 14, 19):
                levels.append(x)
        return levels


# --- The head -----------------------------------------------------------------------------------------------


def head_unit(in_channels: int, out_channels: int, side: int = 1, **options: int) -> nn.Sequential:
    """A convolution, batch norm and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, side, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class DAFormerHead(nn.Module):
    def __init__(self, in_channels: tuple[int, ...], classes: int, channels: int = 256):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Linear(each, channels) for each in in_channels)
        joined = channels * len(in_channels)
        self.branches = nn.ModuleList([head_unit(joined, channels)])
        for dilation in (6, 12, 18):
            depthwise = head_unit(joined, joined, 3, padding=dilation, dilation=dilation, groups=joined)
            self.branches.append(nn.Sequential(depthwise, head_unit(joined, channels)))
        self.bottleneck = head_unit(4 * channels, channels, 3, padding=1)
        self.dropout, self.out = nn.Dropout2d(0.1), nn.Conv2d(channels, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        maps = []
        for embedding, level in zip(self.embeddings, levels, strict=True):
            tokens = embedding(level.flatten(2).transpose(1, 2)).transpose(1, 2)
            each = tokens.reshape(len(level), -1, *level.shape[2:])
            maps.append(F.interpolate(each, levels[0].shape[2:], mode="bilinear", align_corners=False))
        x = torch.cat(maps, 1)
        return self.out(self.dropout(self.bottleneck(torch.cat([branch(x) for branch in self.branches], 1))))


# --- The step -----------------------------------------------------------------------------------------------


class Segmenter(nn.Module):
    def __init__(self, backbone: nn.Module, classes: int):
        super().__init__()
        self.backbone, self.head = backbone, DAFormerHead(backbone.channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.read(self.backbone(images), images)

    def read(self, levels: list[Tensor], images: Tensor) -> Tensor:
        return F.interpolate(self.head(levels), images.shape[2:], mode="bilinear", align_corners=False)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over all pixels."""
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    return (losses if weight is None else weight * losses).mean()


class Training:
    """MIC's step on a student, with its teacher, its reference and its optimizer."""

    def __init__(self, backbone: nn.Module, classes: int):
        self.student = Segmenter(backbone, classes).train()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.reference = copy.deepcopy(backbone).requires_grad_(False).eval()
        self.teacher.eval()
        for layer in self.teacher.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.train()
        trunk = [p for p in self.student.backbone.parameters() if p.requires_grad]
        groups = [{"params": trunk}, {"params": self.student.head.parameters(), "lr": 6e-4}]
        self.optimizer = torch.optim.AdamW(groups, lr=6e-5, weight_decay=0.01)

    def __call__(self, iteration: int, source: Tensor, labels: Tensor, target: Tensor) -> None:
        self.optimizer.zero_grad()
        alpha = min(1 - 1 / (iteration + 1), 0.999)
        with torch.no_grad():
            for theirs, own in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                theirs.mul_(alpha).add_(own, alpha=1 - alpha)
        levels = self.student.backbone(source)
        loss = cross_entropy(self.student.read(levels, source), labels)
        (loss + 0.005 * self.feature_distance(levels[-1], source, labels)).backward()
        with torch.no_grad():
            probability = self.teacher(target).softmax(1)
            confidence, pseudo = probability.max(1)
            weight = torch.full(labels.shape, float((confidence >= 0.968).float().mean()))
            mask = torch.stack([self.class_mask(each) for each in labels])
            mixed = torch.where(mask[:, None], source, target)
            mixed_labels = torch.where(mask, labels, pseudo)
            mixed_weight = torch.where(mask, torch.ones_like(weight), weight)
        cross_entropy(self.student(mixed), mixed_labels, mixed_weight).backward()
        height, width = target.shape[2:]
        blocks = (torch.rand(len(target), 1, height // 32, width // 32) > 0.7).float()
        masked = target * F.interpolate(blocks, (height, width))
        cross_entropy(self.student(masked), pseudo, weight).backward()
        self.optimizer.step()

    @torch.no_grad()
    def class_mask(self, labels: Tensor) -> Tensor:
        """Pixels of half of the classes."""
        classes = labels.unique()
        chosen = classes[torch.randperm(len(classes))[: (len(classes) + 1) // 2]]
        return torch.isin(labels, chosen)

    def feature_distance(self, features: Tensor, source: Tensor, labels: Tensor) -> Tensor:
        """Mean distance from the reference's features on cells of things."""
        with torch.no_grad():
            wanted = self.reference(source)[-1]
            things = torch.stack([(labels == thing).float() for thing in THINGS], 1)
            cells = F.adaptive_avg_pool2d(things, features.shape[2:]).amax(1) >= 0.75
        return (features - wanted).norm(dim=1)[cells].mean()
