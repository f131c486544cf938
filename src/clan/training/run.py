"""`clan.train`: trains a configuration."""

from collections.abc import Sequence
from pathlib import Path

from clan.core.ranks import launched
from clan.data.domains import require_names
from clan.run.config import Config
from clan.run.earlier import finished
from clan.run.observer import Observer
from clan.training.display import Output, open_display
from clan.training.environment import RunRecord
from clan.training.interruption import Resume
from clan.training.trainer import Trainer


def train(
    config: Config,
    *,
    resume: Resume = False,
    accept_changes: bool = False,
    output: Output = "text",
    callbacks: Sequence[Observer] = (),
) -> Path:
    """Trains a configuration and writes snapshots, states and records to `config.snapshot_dir`.

    Args:
        config: the run, e.g. from a preset or `clan.load_config`.
        resume: True: continue from the latest state; "auto": continue if there is a state, else start; a finished run
            is left unchanged.
        accept_changes: continue even if options differ from the state's.
        output: "text" (display or log lines), "json" (one object per line on stdout) or "quiet".
        callbacks: are told of every step, validation and snapshot of this call, in the first process alone, after the
            run's own records; one that raises is left out from then on, with a warning on stderr.

    Returns:
        Path of the segmenter's last snapshot.

    Raises:
        ClanError: data, weights, folder or device do not fit, or training fails.
        Interrupted: a signal stopped the run after its state was saved.
    """
    if not resume:
        require_names(config.source.dataset, config.target.dataset, classes=config.classes)
    with open_display(output) as display:
        if resume == "auto" and not launched() and (last := finished(config, accept_changes=accept_changes)):
            display.note(f"the run in {config.snapshot_dir} is finished: there is nothing left to do")
            display.finished(last)
            return last
        trainer = Trainer(config, resume=resume, accept_changes=accept_changes, notify=display.note)
        trainer.interruption.say = display.interrupted
        if config.network.restore_from is None and not trainer.iteration:
            if config.network.backbone != "resnet-tiny":
                display.warn(
                    "no initial weights are given, so the network starts from random ones and will not "
                    "reproduce any published score: docs/weights.md says where to get them; name the file with "
                    "--network.restore-from"
                )
            else:
                display.note("no initial weights given: the network starts from random ones")
        if not trainer.ranks.first:
            return trainer.run()
        snapshot = trainer.run(display, RunRecord(config.snapshot_dir, autotune=config.autotune), *callbacks)
        display.finished(snapshot)
    return snapshot
