"""Faults that training can tolerate: samples that cannot be read, losses and gradients that are not finite."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from safetensors.numpy import save

from clan.core import fused
from clan.core.errors import CheckpointError
from clan.core.files import write_atomically, writing
from clan.core.output import encoded, one_line
from clan.data.loader import Batch, DomainSampler, too_many
from clan.run.folder import NONFINITE


def find_nonfinite(losses: Mapping[str, float]) -> str | None:
    """Returns the first loss that is not finite, as "loss_seg is nan", or None."""
    return next((f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)), None)


@paddle.no_grad()
def any_nonfinite(gradients: Sequence[Tensor]) -> Tensor:
    """Whether something is not finite among gradients, bool [1] on the device, without a copy of a gradient.

    On the CPU a sum that overflows float32 counts too; gradients of that size must not be applied either.
    """
    if fused.in_one_call():
        return fused.unscale(gradients, 1.0)
    return ~paddle.isfinite(paddle.add_n([gradient.sum() for gradient in gradients])).reshape([1])


def find_nonfinite_gradient(gradients: Mapping[str, Tensor]) -> str:
    """Describes the first gradient that is not finite, and how many there are."""
    names = [name for name, gradient in gradients.items() if not np.isfinite(gradient.numpy()).all()]
    if not names:
        return "the sum of the gradients is not finite"
    return f"the gradient of {names[0]} is not finite" + (f" ({len(names)} of {len(gradients)})" if names[1:] else "")


def write_dump(folder: Path, iteration: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """Writes `nonfinite/ITERATION.safetensors` and `nonfinite/ITERATION.json`.

    Args:
        folder: the run's folder.
        iteration: the iteration that failed.
        arrays: networks and gradients by name.
        facts: JSON values for the `.json` file.

    Returns:
        A clause that says where the files are, or why they were not written.
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


class BadSamples:
    """Counts samples that cannot be read, in training order, and writes them to a file with the reason.

    Args:
        path: text file, one line per sample.
        limit: number of bad samples that are tolerated.
        samplers: by domain; restored bad samples are marked in them, so that they are not read again.
        notify: receives sentences for the user.
    """

    def __init__(
        self, path: Path, limit: int, samplers: Mapping[str, DomainSampler], notify: Callable[[str], None]
    ) -> None:
        self.path, self.limit, self.samplers, self.notify = path, limit, samplers, notify
        self.records: list[dict[str, Any]] = []

    def restore(self, records: Iterable[dict[str, Any]]) -> None:
        """Restores the records of a resumed run."""
        for record in records:
            self.records.append(record)
            self.samplers[record["domain"]].bad[record["name"]] = record["reason"]
        if self.records:
            self._write()

    def note(self, iteration: int, domain: str, batch: Batch) -> None:
        """Records the bad samples of a batch that are not recorded yet.

        Raises:
            DataError: the limit is exceeded.
            CheckpointError: the file cannot be written.
        """
        known = {(record["domain"], record["name"]) for record in self.records}
        for name, reason in batch.skipped.items():
            if (domain, name) in known:
                continue
            if len(self.records) == self.limit:
                raise too_many(reason, self.limit)
            self.records.append({"iteration": iteration, "domain": domain, "name": name, "reason": reason})
            self._write()
            self.notify(f"bad sample {len(self.records)} of at most {self.limit}, skipped from now on: {reason}")

    def _write(self) -> None:
        lines = [
            one_line(f"iteration {record['iteration']}, {record['domain']} {record['name']}: {record['reason']}") + "\n"
            for record in self.records
        ]
        with writing(self.path, "free disk space", CheckpointError):
            write_atomically(self.path, lambda file: file.write(encoded("".join(lines))))
