"""Training: a configuration in, a folder of snapshots out."""

from pathlib import Path

from clan.config import Config
from clan.domain_options import require_names
from clan.engine.environment import RunRecord
from clan.engine.trainer import Trainer
from clan.reporting.live import Output, open_display


def train(config: Config, *, resume: bool = False, accept_changes: bool = False, output: Output = "text") -> Path:
    """Runs a configuration to its end, showing how it goes, and returns the last snapshot.

    Raises:
        ClanError, Interrupted: see `Trainer`.
    """
    if not resume:
        require_names(config.source.dataset, config.target.dataset, classes=config.classes)
    with open_display(output) as display:
        if config.network.restore_from is None and not resume:
            display.note("no initial weights given: the network starts from random ones")
        trainer = Trainer(config, resume=resume, accept_changes=accept_changes, notify=display.note)
        trainer.interruption.say = display.interrupted
        if not trainer.ranks.first:
            return trainer.run()
        snapshot = trainer.run(display, RunRecord(config.snapshot_dir))
        display.finished(snapshot)
    return snapshot
