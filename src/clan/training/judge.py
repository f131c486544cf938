"""`--select-without-labels`: what every snapshot is worth without labels of the target, measured while training."""

from collections.abc import Callable
from pathlib import Path

from clan.core.output import one_line
from clan.evaluation.judging import describe
from clan.evaluation.measuring import measure, open_material
from clan.evaluation.selection import Measured, choose, keep, kept, key_of, write_selection
from clan.methods.base import Method, Role
from clan.models.segmenter import Segmenter
from clan.run.config import Config
from clan.run.folder import Snapshot, find_snapshots
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
        self._measured: dict[Path, Measured] = {}

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
            A sentence on the result; None: it broke off.

        Raises:
            ClanError: an image cannot be read, or a file not be written.
        """
        total, done = len(self.material.target) + len(self.material.source), 0

        def seen() -> None:
            nonlocal done
            done += 1
            on_image(done, total)
            if stop():
                raise Stopped

        try:
            found = measure(method.exported, self.material, teacher=_teacher(method), on_image=seen)
        except Stopped:
            return None
        keep(self.folder, snapshot.path.stem, key_of(self.material.fingerprint(), snapshot.path), found)
        self._measured[snapshot.path] = Measured(snapshot, found)
        selection = choose(self._all(), describe(self.material))
        write_selection(self.folder, selection)
        values = next(one.values for one in selection.snapshots if one.snapshot == snapshot.path.name)
        text = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        best = selection.snapshots[selection.chosen].snapshot
        remarks, self._remarks = self._remarks, ()
        return one_line("; ".join([f"without labels: {text}", f"chosen so far: {best}", *remarks]))

    def _all(self) -> list[Measured]:
        """The measurements of the run's snapshots, by iteration; those of before a resume are read once."""
        for snapshot in find_snapshots(self.folder):
            if snapshot.path not in self._measured:
                key = key_of(self.material.fingerprint(), snapshot.path)
                found = kept(self.folder, snapshot.path.stem, key, self.material.num_classes)
                if found is not None:
                    self._measured[snapshot.path] = Measured(snapshot, found)
        return sorted(self._measured.values(), key=lambda one: one.snapshot.iteration or 0)


def _teacher(method: Method) -> Segmenter | None:
    """The network that labels the target, unless it is the exported one."""
    for network in method.networks.values():
        if network.role is Role.TEACHER and network.layer is not method.exported:
            assert isinstance(network.layer, Segmenter)
            return network.layer
    return None
