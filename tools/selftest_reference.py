# ruff: noqa: E402
"""Records what `clan doctor --selftest` compares with: two drawn pictures, and what float64 computes of them.

python tools/selftest_reference.py
"""

import os

os.environ["CLAN_KERNELS"] = "0"

import numpy as np

from clan.core import runtime

runtime.import_paddle()

import paddle

from clan.cli.selftest import REFERENCE, case
from clan.streets.worlds import CAMERA, RENDERED, draw


def main() -> None:
    """Writes the file beside the module."""
    source, target = draw(RENDERED, (7, 0, 0), (96, 48)), draw(CAMERA, (7, 1, 0), (96, 48))
    stored = {"source": source.image, "target": target.image, "labels": source.train_ids}
    np.savez_compressed(REFERENCE, **stored)
    paddle.set_default_dtype("float64")
    np.savez_compressed(REFERENCE, **stored, **case(double=True))
    print(f"saved {REFERENCE}, {REFERENCE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
