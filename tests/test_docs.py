"""What README and docs say is so: commands parse or run, flags exist, links lead somewhere, YAML is read."""

import re
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tomllib
import yaml
from PIL import Image

from clan.cli import main as cli
from clan.cli.arguments import parameters_of, parse_call
from clan.cli.plan import plan_parser
from clan.datasets import Classes, DescriptionFile
from clan.run import presets as recipes
from clan.run.config import NetworkConfig, flat_options, to_yaml
from clan.run.method_options import METHOD_OPTIONS, switched
from tests.pages import DOCS, PAGES, READMES, ROOT, anchors, blocks, commands, links, name, prose, without_environment
from tools.documentation import SCRIPTS, parser_of

YOUR_DATA, TUTORIAL, README = ROOT / "docs/your-data.md", ROOT / "docs/tutorial.md", READMES[0]
MARKDOWN = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

ENGLISH_ALONE = {
    "benchmarks",
    "deviations",
}
"""Pages that are not translated yet; it must not grow."""

CHINESE_ALONE = {"self-training"}

TRANSLATIONS = {"README.zh-CN.md": "README.md"} | {
    name(page): f"docs/{page.name}"
    for page in sorted((ROOT / "docs/zh").glob("*.md"))
    if page.stem not in CHINESE_ALONE
}


@pytest.mark.parametrize("page", [YOUR_DATA, ROOT / "docs/zh/your-data.md"], ids=name)
def test_the_descriptions_in_the_documentation_are_valid(page):
    whole, splits, classes = map(yaml.safe_load, blocks(page, "yaml"))
    description = DescriptionFile.model_validate({"name": "rides"} | whole | splits)
    assert set(description.splits) == {"night", "train", "small", "tenth", "others"}
    assert Classes.model_validate(classes).owners["street"] == 0
    keys = set(re.findall(r"^\| `(\w+)`(?:(?:, |、)`(\w+)`)?", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {key for pair in keys for key in pair if key} == set(DescriptionFile.model_fields)


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        # Headings of what is made from the code are looked for when the site is built.
        if anchor and "<!-- made" not in target.read_text(encoding="utf-8") and not anchor.startswith("clan."):
            assert anchor in anchors(target), link


def test_the_site_s_navigation_names_every_page_once():
    class Loader(yaml.SafeLoader):
        """Passes over names of Python objects."""

    Loader.add_multi_constructor("", lambda *_: None)

    def leaves(entry):
        if isinstance(entry, str):
            return [entry]
        return [leaf for part in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(part)]

    named = leaves(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"])
    assert sorted(named) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in DOCS)


def test_the_flags_of_a_plan_are_in_the_reference():
    own = {flag for action in plan_parser()._actions for flag in action.option_strings}
    own -= {flag for action in start_parser()._actions for flag in action.option_strings} | {"--no-measure"}
    table = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    section = table[table.index("### clan plan") :]
    assert [flag for flag in own | {"--json"} if f"`{flag}" not in section.replace("[no-]", "")] == []


def test_a_page_is_there_in_both_languages_or_listed():
    english, chinese = ({page.stem for page in folder.glob("*.md")} for folder in (ROOT / "docs", ROOT / "docs/zh"))
    assert english - chinese == ENGLISH_ALONE
    assert chinese - english == CHINESE_ALONE


@pytest.mark.parametrize("page", sorted((ROOT / "docs/zh").glob("*.md")), ids=name)
def test_a_chinese_page_says_its_language_and_leads_to_the_english_one(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith('<div lang="zh-Hans" markdown>')
    assert text.endswith("</div>\n")
    assert page.stem in CHINESE_ALONE or f"[English](../{page.name})" in text


@pytest.mark.parametrize("translation", TRANSLATIONS)
def test_a_translation_shows_the_same_commands(translation):
    original = ROOT / TRANSLATIONS[translation]
    assert list(commands(ROOT / translation)) == list(commands(original))
    assert blocks(ROOT / translation, "bibtex") == blocks(original, "bibtex")


def test_the_flags_that_choose_where_training_starts_are_in_the_reference():
    flags = [flag for action in start_parser()._actions for flag in action.option_strings]
    table = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert [flag for flag in flags if f"\n| `{flag}" not in table] == []


# --- every command parses ---


def start_parser():
    return parser_of(lambda: cli.train_command([]))


@pytest.fixture(scope="module")
def place(worlds, tmp_path_factory):
    """A folder as the documentation's reader has it: data, weights, own folders described, a run's configuration."""
    folder = tmp_path_factory.mktemp("reader")
    data = folder / "data"
    (data / "GTA5").mkdir(parents=True)
    for part in ("SYNTHIA", "Cityscapes"):
        (data / part).symlink_to(worlds / part)
    for kind, given, suffix in (("images", "leftImg8bit", "leftImg8bit"), ("labels", "gtFine", "gtFine_labelIds")):
        (data / "GTA5" / kind).mkdir()
        for number, path in enumerate(sorted((worlds / "Cityscapes" / given / "val").rglob(f"*_{suffix}.png"))):
            shutil.copy(path, data / "GTA5" / kind / f"{number:05}.png")
    for own in ("render", "rides"):
        draw_own(folder / own)
        write_description(folder, own)
    (folder / "classes.yaml").write_text(blocks(TUTORIAL, "yaml")[0])
    run = folder / "snapshots/SYS2Cityscapes"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(recipes.official()))
    return folder


OWN_CLASSES = ("road", "street", "car", "van", "truck", "sky")


def draw_own(folder):
    """Four pictures and their labels, as an own renderer or camera might store them."""
    rng = np.random.default_rng(0)
    for part in ("photos", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (48, 96, 3), np.uint8)).save(folder / f"photos/{number}.png")
        label = np.arange(96, dtype=np.uint8)[None].repeat(48, axis=0) // 16
        Image.fromarray(label).save(folder / f"labels/{number}.png")


def write_description(folder, own):
    """What a user makes of what `clan data init` proposes."""
    classes = "".join(f"  {name}: {number}\n" for number, name in enumerate(OWN_CLASSES))
    text = f'root: {own}\nimages: "photos/{{name}}.png"\nlabels: "labels/{{name}}.png"\nclasses:\n{classes}'
    (folder / f"{own}.yaml").write_text(text)


class Planned(Exception):
    """Instead of measuring steps."""


def plan(*_, **__):
    raise Planned


def check(words, trained):
    """Lets the program that a command names parse the rest; raises whatever does not fit."""
    words = without_environment(words)
    program, *rest = words
    if program == "clan" and rest[:1] == ["train"]:
        before = len(trained)
        cli.train_command(rest[1:])
        assert len(trained) == before + 1
    elif program == "clan" and rest[:1] == ["plan"]:
        with pytest.raises(Planned):
            cli.dispatch(rest)
    elif program == "clan":
        known = cli.COMMANDS | {f"data {command}": function for command, function in cli.DATA_COMMANDS.items()}
        count = 2 if rest[0] == "data" else 1
        command = " ".join(rest[:count])
        parse_call(known[command], f"clan {command}", rest[count:])
    elif program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert rest in (["install", "."], *(["install", f".[{extra}]"] for extra in extras))
    elif program == ".":
        assert rest == [".venv/bin/activate"]
    else:
        assert program == "python", f"{program} is no program that the documentation's reader has"
        check_python(rest, trained)


def check_python(rest, trained):
    script, *arguments = rest
    if script == "-c":
        compile(arguments[0], "documentation", "exec")
    elif rest[:2] == ["-m", "paddle.distributed.launch"]:
        launched = launcher().parse_args(arguments[1:])
        program = launched.training_script
        check([*([] if program == "clan" else ["python"]), program, *launched.training_script_args], trained)
    elif script in SCRIPTS:
        parser_of(SCRIPTS[script]).parse_args(arguments)
    elif script == "-m":
        assert arguments[0].startswith("benchmarks.")
        parser_of(lambda: runpy.run_module(arguments[0], run_name="__main__")).parse_args(arguments[1:])
    else:
        assert Path(script).parent in (Path("benchmarks"), Path("tools")), script
        parser_of(lambda: runpy.run_path(str(ROOT / script), run_name="__main__")).parse_args(arguments)


def launcher():
    from paddle.distributed.launch.context import args_envs

    return parser_of(args_envs.parse_args)


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=name)
def test_every_command_parses(page, place, monkeypatch):
    trained = []
    monkeypatch.setattr("clan.training.run.train", lambda *given, **options: trained.append(given))
    monkeypatch.setattr("clan.training.plan.estimate", plan)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.chdir(place)
    for words in commands(page):
        try:
            check(words, trained)
        except (SystemExit, Exception) as problem:
            pytest.fail(f"{' '.join(words)}: {problem!r}")


WRONG = """\
clan trian
clan train --sorce gta5
clan predict --weights a.pdparams
clan data chek render.yaml
clan evaluate x --split
python CLAN_iou.py
python CLAN_train.py --lambda 3
python benchmarks/iou.py --sizes 1x1
python -m paddle.distributed.launch --log CLAN_train.py
python -c 1+
make tea
pip install clan
frobnicate
"""


@pytest.mark.parametrize("words", WRONG.splitlines())
def test_a_wrong_command_is_noticed(words, place, monkeypatch):
    monkeypatch.setattr("clan.training.run.train", lambda *given, **options: None)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(place)
    with pytest.raises((SystemExit, KeyError, AssertionError, SyntaxError)):
        check(words.split(), [])


# --- every flag exists ---

OTHERS = {"--build-arg", "--signal"}
"""Flags of programs that the text mentions but never shows a command of."""


def known_flags():
    """All flags of all programs that the documentation speaks of."""
    parsers = [start_parser(), plan_parser(), launcher(), *map(parser_of, SCRIPTS.values())]
    flags = {flag for parser in parsers for action in parser._actions for flag in action.option_strings}
    for option, _ in flat_options(recipes.official().model_dump() | {"source": {}, "target": {}}):
        *sections, field = option.replace("_", "-").split(".")
        flags |= {"--" + ".".join([*sections, part]) for part in (field, f"no-{field}")}
    for options in METHOD_OPTIONS.values():
        fields = [field.replace("_", "-") for field in options.model_fields]
        flags |= {f"--method.{switch}{field}" for field in fields for switch in ("", "no-")}
    for option, _ in flat_options(recipes.official().source.model_dump(exclude={"dataset"})):
        flags |= {f"--{role}.{option.replace('_', '-')}" for role in ("source", "target")}
    for command in (cli.COMMANDS | cli.DATA_COMMANDS).values():
        words = [parameter.name.replace("_", "-") for parameter in parameters_of(command)]
        flags |= {f"--{switch}{word}" for word in words for switch in ("", "no-")}
    for script in (ROOT / "benchmarks").glob("*.py"):
        flags |= set(re.findall(r'"(--[\w-]+)"', script.read_text(encoding="utf-8")))
    return flags | OTHERS


@pytest.fixture(scope="module")
def flags():
    return known_flags()


def spoken(text):
    """The flags in inline code; --[no-]x is two."""
    for code in re.findall(r"`([^`]+)`", text):
        for optional, flag in re.findall(r"(?<![\w-])--(\[no-\])?([A-Za-z][\w.-]*[\w])", code):
            yield f"--{flag}"
            if optional:
                yield f"--no-{flag}"


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_every_flag_that_is_spoken_of_exists(page, flags):
    assert sorted(set(spoken(prose(page))) - flags) == []


# --- what a reader pastes runs ---


def small(source, method="clan"):
    """The official preset with a network and pictures for a test, and a method, which stops after two iterations."""
    base = recipes.official(source)
    domain = {"size": (64, 32)}
    return base.model_copy(
        update={
            "method": switched(base.method, method),
            "source": base.source.model_copy(update=domain),
            "target": base.target.model_copy(update=domain),
            "network": NetworkConfig(backbone="resnet-tiny", discriminator_width=8),
            "num_steps_stop": 2,
            "num_workers": 0,
            "save_images": 1,
        }
    )


def shrunk(word):
    """A word of a command, for the small run."""
    return {"resnet50": "resnet-tiny"}.get(word, re.sub(r"(?<=_)(100000|200)\b", "2", word))


def run(words):
    """Runs a command of `clan`, or a script, in this process; returns whether it is one."""
    program, *rest = [shrunk(word) for word in without_environment(words)]
    if (program, *rest) == ("make", "demo"):
        assert "$(BIN)/clan demo\n" in (ROOT / "Makefile").read_text()
        program, rest = "clan", ["demo"]
    if (program, *rest[:1]) == ("clan", "serve"):
        return False  # it answers until it is stopped, and has tests of its own
    if program == "clan":
        cli.dispatch([*rest, "--steps", "10"] if rest == ["demo"] else rest)
        if rest[:2] == ["data", "init"]:
            assert "class_0" in Path(f"{rest[2]}.yaml").read_text()
            write_description(Path.cwd(), rest[2])
    elif program == "python" and rest[0] in SCRIPTS:
        SCRIPTS[rest[0]](rest[1:])
    else:
        return False
    return True


@pytest.mark.parametrize("page", [README, TUTORIAL], ids=name)
def test_a_reader_s_way_runs_from_the_first_command_to_the_last(page, place, monkeypatch, tmp_path, capfd):
    for part in ("data", "render", "rides", "classes.yaml"):
        (tmp_path / part).symlink_to(place / part)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, "official", small)
    monkeypatch.setitem(recipes.PRESETS, "mic", partial(small, method="mic"))
    monkeypatch.setattr(recipes, "DEMO_SIZE", (64, 32))
    monkeypatch.setattr(recipes, "DEMO_TRAINING_SIZE", (64, 32))
    for constant in ("SOURCE_IMAGES", "TARGET_IMAGES", "VALIDATION_IMAGES"):
        monkeypatch.setattr(f"clan.cli.demo.{constant}", 2)
    Image.new("RGB", (64, 32)).save("photo.jpg")
    for weights in ("deeplab.pth", "mit_b5.pth"):
        prepare_weights(Path(weights))
    done = [words for words in commands(page) if run(words)]
    assert len(done) >= {README: 19, TUTORIAL: 9}[page]
    assert Path("report.html").stat().st_size > 10_000
    assert all(
        "Criteria without labels" in page.read_text(encoding="utf-8") for page in Path().glob("demo/report.html")
    )
    assert Path("out/legend.png").is_file()


def prepare_weights(path):
    """Stands for the weights that the README speaks of."""
    from clan.models.segmenter import build_segmenter
    from clan.models.weights import save_weights

    save_weights(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=19)), path)
