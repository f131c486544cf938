"""Names of MobileNetV2's arrays in files of torchvision and of Paddle, `paddle.vision`."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

_LAYER = re.compile(r"(features\.\d+\.conv)\.(\d)(?:\.(\d))?\.(\w+)")
"""Block, number of a layer in it or of a unit, number of a layer in the unit, kind of array."""

_UNIT = 3
"""Layers of a unit: convolution, norm and activation."""


def flatten(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers the layers of a block through, which those files have in units at its beginning; all others stay.

    Args:
        arrays: by their names on file.
    """
    found = {name: match for name in arrays if (match := _LAYER.fullmatch(name))}
    units = Counter(block for block, _ in {(match[1], match[2]) for match in found.values() if match[3]})

    def flat(name: str) -> str:
        if name not in found or not units[found[name][1]]:
            return name
        block, first, layer, kind = found[name].groups()
        place = int(first) * _UNIT + int(layer) if layer else int(first) + units[block] * (_UNIT - 1)
        return f"{block}.{place}.{kind}"

    return {flat(name): array for name, array in arrays.items()}
