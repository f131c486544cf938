"""Losses and gradients that are not finite: finding them, and what is written down then."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from safetensors.numpy import save

from clan.core.files import write_atomically
from clan.core.output import encoded
from clan.run.folder import NONFINITE


def find_nonfinite(losses: Mapping[str, float]) -> str | None:
    """The first loss that is not finite, as "loss_seg is nan"."""
    return next((f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)), None)


@paddle.no_grad()
def are_finite(gradients: Mapping[str, Tensor]) -> bool:
    """Whether all gradients are, by their sum: one number to wait for, and nothing of their size is made.

    A sum beyond float32 counts as not finite too; gradients of that size are none to step on.
    """
    total = paddle.add_n([gradient.sum() for gradient in gradients.values()])
    return math.isfinite(float(total))


def find_nonfinite_gradient(gradients: Mapping[str, Tensor]) -> str:
    """The first gradient that is not finite, by name, and how many there are."""
    names = [name for name, gradient in gradients.items() if not np.isfinite(gradient.numpy()).all()]
    if not names:
        return "the sum of the gradients is not finite"
    return f"the gradient of {names[0]} is not finite" + (f" ({len(names)} of {len(gradients)})" if names[1:] else "")


def write_dump(folder: Path, iteration: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """Writes what can be inspected: `ITERATION.safetensors` and `ITERATION.json` in the folder `nonfinite`.

    Returns:
        A few words on where it is, or why it is not.
    """
    path = folder / NONFINITE / f"{iteration}.safetensors"
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
        write_atomically(path.with_suffix(".json"), lambda file: file.write(encoded(text)))
    except OSError as error:
        return f"the networks could not be written to {path} ({error.strerror})"
    return f"networks and gradients are in {path}"
