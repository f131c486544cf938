"""Training: a configuration in, a folder of snapshots out."""

from pathlib import Path

from clan.config import Config
from clan.engine.environment import RunRecord
from clan.engine.trainer import Report, Trainer
from clan.reporting.console import progress


def train(config: Config, *, resume: bool = False, accept_changes: bool = False) -> Path:
    """Runs a configuration to its end, showing progress, and returns the last snapshot.

    Raises:
        ClanError, Interrupted: see `Trainer`.
    """
    if config.network.restore_from is None and not resume:
        print("no initial weights given: the network starts from random ones")
    trainer = Trainer(config, resume=resume, accept_changes=accept_changes)
    record = RunRecord(config.snapshot_dir) if trainer.ranks.first else None
    with progress("training", config.stop, start=trainer.iteration) as advance:

        def on_step(report: Report) -> None:
            if record and trainer.iteration % config.save_every == 0:
                record.update()
            advance(
                status=" ".join(f"{name.removeprefix('loss_')} {value:.4g}" for name, value in report.losses.items())
            )

        snapshot = trainer.run(on_step)
    if record:
        record.update()
    print(f"saved {snapshot}")
    return snapshot
