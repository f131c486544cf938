"""Joining arrays that some files keep apart."""

import re
from collections.abc import Mapping, Sequence

import numpy as np


def join(arrays: Mapping[str, np.ndarray], owner: str, parts: Sequence[str], whole: str) -> dict[str, np.ndarray]:
    """Joins arrays OWNER.PART.KIND of one shape along their first axis to OWNER.WHOLE.KIND; all others stay.

    Args:
        arrays: by their names on file.
        owner: pattern of OWNER.
        parts: PART in order; where one is missing, nothing is joined.
        whole: WHOLE.
    """
    pattern = re.compile(rf"({owner})\.({'|'.join(parts)})\.(\w+)")
    joined: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        found = pattern.fullmatch(name)
        together = [arrays.get(f"{found[1]}.{part}.{found[3]}") for part in parts] if found else []
        fitting = [one for one in together if one is not None and one.shape == array.shape]
        if found is None or len(fitting) < len(parts):
            joined[name] = array
        elif found[2] == parts[0]:
            joined[f"{found[1]}.{whole}.{found[3]}"] = np.concatenate(fitting)
    return joined
