"""The commands and flags of the PaddlePaddle 2.1 port."""

from pathlib import Path

SNAPSHOTS = Path("./snapshots")
"""Folder of the folders of runs, where the port's commands look for them."""

RESULTS = Path("./result")
"""Folder of label maps, likewise."""
