"""Samples that cannot be read: which they are, how many may be, and the record of them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from clan.core.errors import CheckpointError
from clan.core.files import write_atomically
from clan.core.output import encoded, one_line
from clan.data.loader import Batch, DomainSampler, too_many


class BadSamples:
    """Counts bad samples in the order that training meets them, and writes each down with its reason.

    Args:
        path: file of one line per sample.
        limit: how many may be; one more ends the run.
        samplers: by domain; what is known to be bad is not tried again.
        notify: takes sentences for the user.
    """

    def __init__(
        self, path: Path, limit: int, samplers: Mapping[str, DomainSampler], notify: Callable[[str], None]
    ) -> None:
        self.path = path
        self.limit = limit
        self.samplers = samplers
        self.notify = notify
        self.records: list[dict[str, Any]] = []

    def restore(self, records: Iterable[dict[str, Any]]) -> None:
        """Takes the records of a run that is resumed."""
        for record in records:
            self.records.append(record)
            self.samplers[record["domain"]].bad[record["name"]] = record["reason"]
        if self.records:
            self._write()

    def note(self, iteration: int, domain: str, batch: Batch) -> None:
        """Records what of a batch's bad samples is new.

        Raises:
            DataError: they are more than the limit.
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
        try:
            write_atomically(self.path, lambda file: file.write(encoded("".join(lines))))
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path} ({error.strerror}): free disk space") from None
