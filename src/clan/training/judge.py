"""`--select-without-labels`: what every snapshot is worth without labels of the target, measured while training."""

from collections.abc import Callable
from pathlib import Path

from clan.core.output import one_line
from clan.evaluation.finite import NotFinite
from clan.evaluation.judging import describe
from clan.evaluation.measuring import measure, open_material
from clan.evaluation.selection import Measured, choose, keep, kept, key_of, write_selection
from clan.methods.base import Method, Role
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.folder import Snapshot, find_candidates
from clan.training.validation import Stopped


class Judge:
    """Measures snapshots when they are saved, and keeps it where `clan select` does, which then has nothing left to do.

    Args:
        config: the run.

    Raises:
        ClanError: images are not there.
    """

    def __init__(self, config: Config) -> None:
        self.folder = config.snapshot_dir
        self.material = open_material(config, self.folder)
        self._remarks = self.material.remarks  # until they are said
        self._measured: dict[tuple[Path, int, int], Measured] = {}

    def judge(
        self,
        method: Method,
        snapshot: Snapshot,
        *,
        on_image: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> str | None:
        """Measures the exported network, which has just been saved, and chooses among all snapshots so far.

        Args:
            method: its exported network has the snapshot's weights.
            snapshot: the file and its iteration.
            on_image: called with the images seen, and of how many.
            stop: asked after each image whether to leave the measurement to `clan select`.

        Returns:
            A sentence on the result; None: it broke off, or the snapshot was removed meanwhile.

        Raises:
            ClanError: an image cannot be read, or a file not be written.
        """
        key = key_of(self.material.fingerprint(), snapshot.path)
        total, done = len(self.material.target) + len(self.material.source), 0

        def seen() -> None:
            nonlocal done
            done += 1
            on_image(done, total)
            if stop():
                raise Stopped

        try:
            found = measure(method.exported, self.material, teacher=teacher_of(method), on_image=seen)
        except Stopped:
            return None
        except NotFinite:
            return "not judged without labels: its predictions are not finite, as after training that diverged"
        keep(self.folder, snapshot.path.stem, key, found)
        measured = self._all()
        if snapshot.path not in [one.snapshot.path for one in measured]:
            return None
        selection = choose(measured, describe(self.material))
        write_selection(self.folder, selection)
        values = next(one.values for one in selection.snapshots if one.snapshot == snapshot.path.name)
        text = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        best = selection.snapshots[selection.chosen].snapshot
        remarks, self._remarks = self._remarks, ()
        return one_line("; ".join([f"without labels: {text}", f"chosen so far: {best}", *remarks]))

    def _all(self) -> list[Measured]:
        """The measurements of the snapshots that the run has now, by iteration; each file is read once."""
        there = {}
        for snapshot in find_candidates(self.folder):
            status = snapshot.path.stat()
            mark = (snapshot.path, status.st_mtime_ns, status.st_size)
            if (one := self._measured.get(mark)) is None:
                key = key_of(self.material.fingerprint(), snapshot.path)
                found = kept(self.folder, snapshot.path.stem, key, self.material.num_classes)
                one = Measured(snapshot, found) if found is not None else None
            if one is not None:
                there[mark] = one
        self._measured = there
        return list(there.values())


def teacher_of(method: Method) -> Segmenter | None:
    """The network that labels the target, unless it is the exported one."""
    for network in method.networks.values():
        if network.role is Role.TEACHER and network.layer is not method.exported:
            assert isinstance(network.layer, Segmenter)
            return network.layer
    return None
