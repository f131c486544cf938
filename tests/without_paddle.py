"""A virtual environment with what `pip install clan-paddle[onnx,serve]` would install, hence without Paddle."""

import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.pages import ROOT


def make_environment(folder: Path, extras: tuple[str, ...]) -> Path:
    """Makes the environment of links to what is installed here, without a network; returns its Python.

    A distribution that this project needs, but that its pyproject.toml does not name, is not there.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    major, minor = sys.version_info[:2]
    site = folder / f"lib/python{major}.{minor}/site-packages"
    (site / "clan.pth").write_text(f"{ROOT / 'src'}\n")
    waiting, done = [Requirement(f"clan-paddle[{','.join(extras)}]")], set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in done:
            continue
        done.add(str(wanted))
        found = distribution(wanted.name)
        if wanted.name != "clan-paddle":
            for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
                if not (site / top).exists():
                    (site / top).symlink_to(str(found.locate_file(top)))
        for line in found.requires or ():
            further = Requirement(line)
            if any(further.marker is None or further.marker.evaluate({"extra": one}) for one in (*wanted.extras, "")):
                waiting.append(further)
    return folder / "bin/python"
