"""Functions of models and losses computed faster on the CPU than by Paddle: compiled loops, and MKL's products.

`KERNELS` says what is replaced by what. Models and losses do not know of this package; without it they compute the same
numbers, up to rounding. `install` puts the kernels in place, for every call they are made for; all others go to Paddle.

Maps are *channels-last* here unless said otherwise, [B, h, w, C]: a pixel's channels lie side by side, so a 1×1
convolution is one matrix product and a shift of the map moves whole rows of channels. `bridge.py` is where tensors
become arrays, `structure.py` where functions and layers are recognised; the rest knows nothing of Paddle's layers.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from clan.core import fused
from clan.kernels import (
    attention,
    depthwise,
    dilated,
    fusion,
    halving,
    layer_norm,
    linear,
    mixing,
    residual,
    softmax,
    updates,
)
from clan.kernels.bridge import missing, takes_over
from clan.kernels.product import multiplies_bf16 as multiplies_bf16
from clan.kernels.structure import same_code
from clan.losses import segmentation
from clan.models import dinov2, mit
from clan.models.attention import Linear, TokenNorm
from clan.models.daformer_head import Unit
from clan.models.discriminator import Discriminator
from clan.models.heads import Head
from clan.models.mit import LocalMixing
from clan.models.mobilenet import Depthwise
from clan.models.resnet import Bottleneck


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function and what computes it faster.

    Args:
        owner: the class or the module that has the function.
        name: the function's.
        written_for: by name, code that functions of the owner must have: the kernel computes no other.
        fits: whether the kernel can compute a call whose tensor `takes_over` accepts; takes the call's arguments.
        run: computes the call.
    """

    owner: Any
    name: str
    written_for: Mapping[str, Callable[..., Any]]
    fits: Callable[..., bool]
    run: Callable[..., Any]

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


KERNELS = (
    # Winograd's 3×3; batch norm and ReLU applied while the next convolution reads.
    Kernel(Bottleneck, "forward", {"forward": residual.replaced}, residual.fits, residual.forward),
    # Nine shifted and scaled copies of a padded plane.
    Kernel(Depthwise, "forward", {"forward": nn.Conv2D.forward}, depthwise.fits, depthwise.forward),
    # Winograd's 3×3 with batch norm and ReLU.
    Kernel(Unit, "forward", {"forward": fusion.replaced}, fusion.fits, fusion.forward),
    # Loops over a pixel's channels, convolution and GELU together, without transposing the map.
    Kernel(LocalMixing, "forward", {"forward": mixing.replaced}, mixing.fits, mixing.forward),
    # The bias is where the product is added to, and its gradient one pass.
    Kernel(Linear, "forward", {"forward": linear.replaced}, linear.fits, linear.forward),
    # Gradients of input and parameters in one pass.
    Kernel(TokenNorm, "forward", {"forward": nn.LayerNorm.forward}, layer_norm.fits, layer_norm.forward),
    # Softmax in place, with an exponential function that becomes vector instructions.
    *(
        Kernel(user, "attend", {"attend": attention.replaced}, attention.fits, attention.forward)
        for user in (mit, dinov2)
    ),
    # One product for all taps of all dilations of all heads on the same features.
    Kernel(
        Head,
        "run_together",
        {"run_together": dilated.replaced, "forward": dilated.replaced_head},
        dilated.fits,
        dilated.run_together,
    ),
    # A 4×4 convolution of stride 2 as four products, without a copy per tap.
    Kernel(Discriminator, "forward", {"forward": halving.replaced}, halving.fits, halving.forward),
    # One pass through memory instead of one for every product and sum.
    Kernel(fused, "mix", {"mix": updates.replaced_mix}, updates.fits_mix, updates.mix),
    Kernel(fused, "follow", {"follow": updates.replaced_follow}, updates.fits_follow, updates.follow),
    # One pass through maps in Paddle's layout.
    Kernel(segmentation, "softmax", {"softmax": functional.softmax}, softmax.fits, softmax.softmax),
)
"""What is replaced, by what, for which calls; all of them only for tensors that `bridge.takes_over` accepts."""

_lock = threading.Lock()
_before: dict[Kernel, object] = {}
"""The kernels that are in place, with what stood in their owners' dictionaries before; `_NOTHING` if inherited."""

_NOTHING = object()


def install() -> None:
    """Puts the kernels in place, if this Paddle has what they need; those whose function was changed stay out."""
    with _lock:
        if _before or missing():
            return
        for kernel in KERNELS:
            if all(same_code(getattr(kernel.owner, name), code) for name, code in kernel.written_for.items()):
                _before[kernel] = vars(kernel.owner).get(kernel.name, _NOTHING)
                chooser = _chooser(kernel, getattr(kernel.owner, kernel.name))
                _set(kernel, staticmethod(chooser) if isinstance(_before[kernel], staticmethod) else chooser)


def uninstall() -> None:
    """Puts back what `install` replaced, except what somebody else has replaced since."""
    with _lock:
        for kernel, before in _before.items():
            if getattr(getattr(kernel.owner, kernel.name), "kernel", None) is kernel:
                _set(kernel, before)
        _before.clear()


def active() -> bool:
    """Whether kernels are in place."""
    return bool(_before)


def remark() -> str | None:
    """Why functions that have a kernel are left to Paddle, and the remedy; None: none is."""
    if not _before:
        return missing() or "the kernels are not in place: call clan.core.runtime.import_paddle()"
    left = [str(kernel) for kernel in KERNELS if kernel not in _before]
    return f"{' and '.join(left)} changed since the kernel was written: change it too" if left else None


def _chooser(kernel: Kernel, plain: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in the place of a function: the kernel for calls that suit it, the function itself for others."""

    @functools.wraps(plain)
    def choose(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if kernel in _before and tensors and takes_over(tensors[0]) and kernel.fits(*args, **kwargs):
            return kernel.run(*args, **kwargs)
        return plain(*args, **kwargs)

    # Paddle's `to_static` would translate the source that it finds by this attribute, with this module's globals.
    del choose.__wrapped__
    choose.__signature__ = inspect.signature(plain)  # pyright: ignore[reportAttributeAccessIssue]
    choose.kernel = kernel  # pyright: ignore[reportAttributeAccessIssue]
    return paddle.jit.not_to_static(choose)


def _set(kernel: Kernel, value: object) -> None:
    delattr(kernel.owner, kernel.name) if value is _NOTHING else setattr(kernel.owner, kernel.name, value)
