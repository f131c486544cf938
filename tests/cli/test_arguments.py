"""Parsers made from signatures and fields: values arrive as they were given; what does not fit names flag and value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from clan.cli import main as cli
from clan.cli.arguments import parse_call, parse_section
from clan.cli.commandline import Parser
from clan.run import presets as recipes

SEEN = []


@dataclass(frozen=True)
class Shared:
    """Flags of several commands.

    Args:
        where: it is.
        many: of them.
    """

    where: Literal["here", "there"] = "here"
    many: tuple[int, ...] | None = None


def command(
    source: Path,
    others: tuple[Path, ...] = (),
    /,
    *,
    output: Annotated[Path, "-o"] = Path("out"),
    size: tuple[int, int] | None = None,
    stride: Literal[8, 16] | None = None,
    shuffle: bool = True,
    rate: float = 0.5,
    shared: Shared,
):
    """Does nothing.

    Args:
        source: where 100 % of it is.
        others: more,
            on two lines.
        output: where to.
        size: of it.
        stride: of it.
        shuffle: it.
        rate: of it.
        shared: with others.
    """
    SEEN.append((source, others, output, size, stride, shuffle, rate, shared))


READ = {
    "a": (Path("a"), (), Path("out"), None, None, True, 0.5, Shared()),
    "a b c -o x --size 1 2": (Path("a"), (Path("b"), Path("c")), Path("x"), (1, 2), None, True, 0.5, Shared()),
    "--stride 16 --no-shuffle --rate=-1e-3 a": (Path("a"), (), Path("out"), None, 16, False, -1e-3, Shared()),
    "a --where there --many 1 2": (Path("a"), (), Path("out"), None, None, True, 0.5, Shared("there", (1, 2))),
    "--output x --size 3 4 a --stride None": (Path("a"), (), Path("x"), (3, 4), None, True, 0.5, Shared()),
}


@pytest.mark.parametrize("words", READ)
def test_a_call_gets_what_was_given(words):
    SEEN.clear()
    parse_call(command, "it", words.split())()
    assert [READ[words]] == SEEN


REFUSED = {
    "evaluate": "WEIGHTS; see clan evaluate --help",
    "evaluate w --gup 1": "--gup is not an option here, --gpu is",
    "evaluate w x": "x is one argument too many",
    "evaluate w --gpu x": "--gpu: 'x' is not a whole number",
    "predict w --weights w --output-stride 4": "--output-stride: '4' is none of 8, 16, 32",
    "evaluate w --device tpu": "--device: 'tpu' is none of auto, cpu, gpu",
    "evaluate w --input-size 1024x512": "--input-size: expected WIDTH HEIGHT, got 1024x512",
    "evaluate w --split": "--split: expected a value",
    "train --network.num-classes 300": "--network.num-classes: input should be less than or equal to 255, got 300",
    "train --source.size 10 0": "--source.size: input should be greater than or equal to 1, got 0",
    "train --source.size 10": "--source.size: expected WIDTH HEIGHT, got 10",
    "train --augmentation.scales 1 1 2": "--augmentation.scales: takes 2 values each, got 3 in all",
    "train --network.backbone foo": "--network.backbone: 'foo' is none of resnet101, ",
    "train --output_strid 4": "--output-strid is not an option here, --network.output-stride is",
    "train --sorce gta5": "--sorce is not an option here, --source is",
    "train --loss.gamma -1": "--loss.gamma: input should be greater than or equal to 0, got -1.0",
    "train --num-steps 5 --num-steps-stop 9": "num_steps_stop 9 lies beyond num_steps 5",
    "train --source.dataset nope": "'nope' is neither a description file",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_names_flag_and_value(words, error_of):
    assert REFUSED[words] in error_of(cli.dispatch, *words.split())


def test_fields_are_flags():
    words = "--network.num_classes 19 --loggers --augmentation.scales 1 0.5 2 0.5 --no-shuffle --warmup-steps None"
    words += " --optimizer.no-repeated-updates --source.size 64 32 --network.restore-from a.pth"
    base = recipes.official("gta5")
    readers = {type(base.classes): str, type(base.source.dataset): str}
    config = parse_section(base, words.split(), "", readers, Parser(prog="it", add_help=False))
    assert (config.network.num_classes, config.loggers, config.shuffle, config.warmup_steps) == (19, (), False, None)
    assert config.augmentation.scales == ((1.0, 0.5), (2.0, 0.5))
    assert config.source.size == (64, 32)
    assert config.network.restore_from == Path("a.pth")
    assert not config.optimizer.repeated_updates
    assert (config.target, config.loss) == (base.target, base.loss), "all else is left as it was"


@pytest.mark.parametrize("words", ["train", "evaluate", "predict", "data check"])
def test_help_shows_every_flag_and_its_default(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.dispatch([*words.split(), "--help"])
    assert stop.value.code == 0
    assert "(default: " in capsys.readouterr().out or words == "data check"
