"""What checkpoints put around the arrays of a network: dicts in dicts, and words in front of names."""

import re
from typing import Any

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "params", "network", "net", "segmenter", "module",
    "weights", "student", "teacher", "params_ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema",
)  # fmt: skip
"""Keys under which a checkpoint keeps arrays: the network before averages of it, a student before its teacher."""

_DEEPEST_WRAPPING = 4
_MOST_TABLES = 100

NEUTRAL = ("module", "Scale", "_orig_mod")
"""Words that wrappers put before every name of one network."""

PREFIXES = (
    *NEUTRAL, "model", "network", "net", "segmenter", "backbone", "encoder", "student", "teacher", "model_ema",
    "ema_model", "ema",
)  # fmt: skip
"""Words, each followed by a dot, that may stand before a name; among networks of one file the earlier is preferred."""

_PREFIX = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})\.){{1,8}}")


def wrapped_tables(content: Any, is_array: Any) -> list[tuple[tuple[str, ...], dict[Any, Any]]]:
    """Every dict that holds arrays, with the keys that lead to it, the preferred one first.

    Args:
        content: what a pickle holds; dicts may contain themselves.
        is_array: tells an array from other values.
    """
    found: list[tuple[tuple[str, ...], dict[Any, Any]]] = []
    seen: list[dict[Any, Any]] = []

    def visit(table: dict[Any, Any], path: tuple[str, ...]) -> None:
        if len(seen) >= _MOST_TABLES or any(table is one for one in seen):
            return
        seen.append(table)
        for key in WRAPPERS if len(path) < _DEEPEST_WRAPPING else ():
            if isinstance(inner := table.get(key), dict):
                visit(inner, (*path, key))
        if any(is_array(value) for value in table.values()):
            found.append((path, table))

    if isinstance(content, dict):
        visit(content, ())
    return found


def split_prefix(name: str) -> tuple[str, str]:
    """A name as the known words in front of it, such as "module.backbone.", and the rest."""
    found = _PREFIX.match(name)
    return (found[0], name[found.end() :]) if found else ("", name)


def roles(prefix: str) -> tuple[str, ...]:
    """The words of a prefix that may tell one network of a file from another."""
    return tuple(word for word in prefix.split(".")[:-1] if word not in NEUTRAL)
