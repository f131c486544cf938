"""Whether functions and layers are still those that the kernels were written for."""

import dis
import functools
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

import paddle
from paddle import nn

FORWARDS: Mapping[type[nn.Layer], object] = {kind: kind.forward for kind in (nn.Conv2D, nn.BatchNorm2D, nn.Sequential)}
"""What the layers within a replaced one compute."""


@functools.cache
def same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions run the same instructions on the same globals; names and docstrings may differ."""
    return _instructions(one) == _instructions(other) and one.__defaults__ == other.__defaults__


def _instructions(function: Callable[..., Any]) -> list[tuple[str, object]]:
    code: CodeType = function.__code__
    found = _of_code(code)
    used = {name: id(function.__globals__[name]) for name in code.co_names if name in function.__globals__}
    return [*found, ("globals", used)]


def _of_code(code: CodeType) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = [("arguments", code.co_varnames[: code.co_argcount])]
    for each in dis.get_instructions(code):
        value = each.argval
        if isinstance(value, CodeType):
            found += _of_code(value)
        elif not (isinstance(value, str) and "<locals>" in value):  # a nested function's name contains its owner's
            found.append((each.opname, value))
    return found


def is_ordinary(layer: Any, kind: type[nn.Layer]) -> bool:
    """Whether a layer is of exactly this class, computes what the class does, and nothing listens to it."""
    return (
        type(layer) is kind
        and kind.forward is FORWARDS.get(kind, kind.forward)
        and "forward" not in layer.__dict__
        and not layer._forward_pre_hooks
        and not layer._forward_post_hooks
    )


def is_norm(layer: Any, channels: int) -> bool:
    """Whether a layer is a plain batch norm of that many channels with γ and β in float32."""
    return (
        is_ordinary(layer, nn.BatchNorm2D)
        and layer._data_format == "NCHW"
        and not layer._use_global_stats
        and all(own is not None and own.dtype == paddle.float32 for own in (layer.weight, layer.bias))
        and len(layer.weight) == channels
    )


def is_convolution(layer: Any, shape: Sequence[int | None], **settings: Any) -> bool:
    """Whether a layer is a plain convolution with these settings; see `has_settings`."""
    return is_ordinary(layer, nn.Conv2D) and has_settings(layer, shape, **settings)


def has_settings(
    layer: nn.Conv2D, shape: Sequence[int | None], *, stride: int = 1, padding: int = 0, dilation: int = 1,
    groups: int = 1, bias: bool | None = False,
) -> bool:  # fmt: skip
    """Whether a convolution has a float32 weight and these settings, alike along both axes.

    Args:
        layer: the convolution.
        shape: of its weight; None: any length.
        stride: as Paddle has it, like the next three.
        padding: likewise.
        dilation: likewise.
        groups: likewise.
        bias: whether it has one; None: either way.
    """
    weight = layer.weight
    return (
        weight.dtype == paddle.float32
        and all(wanted in (None, length) for wanted, length in zip(shape, weight.shape, strict=True))
        and layer._stride == [stride, stride]
        and layer._padding == padding
        and layer._dilation == [dilation, dilation]
        and layer._groups == groups
        and layer._padding_mode == "zeros"
        and layer._data_format == "NCHW"
        and (bias is None or bias == (layer.bias is not None))
    )
