"""`python CLAN_train.py --help` tells what this does; see README.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from clan.cli.port.train import entry

if __name__ == "__main__":
    entry()
