"""README and docs, as a reader who pastes commands sees them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*READMES, *DOCS]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language; commands have none."""
    return [found[3] for found in FENCE.finditer(page.read_text(encoding="utf-8")) if found[2] == language]


def prose(page: Path) -> str:
    """What is no fenced block."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """Every command of a page as words, without comments and without "…", which stands for more of the same."""
    for block in blocks(page, ""):
        text = block.replace("\\\n", " ").replace("$(which clan)", "clan")
        for line in text.splitlines():
            words = [word for word in shlex.split(line, comments=True) if word != "…"]
            if words:
                yield words


def without_environment(words: list[str]) -> list[str]:
    """A command without the variables that it sets."""
    while re.match(r"\w+=", words[0]):
        words = words[1:]
    return words


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead, but to other sites."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """What links can name in a page: its headings, and names given by hand."""
    text = prose(page)
    titles = re.findall(r"^#+ (.*?)(?: \{.*)?$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]
    return {*plain, *re.findall(r"\{ ?#([\w.-]+)", text)}
