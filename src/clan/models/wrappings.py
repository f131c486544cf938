"""Wrappers of a network's arrays in files: nested dicts, and prefixes of names."""

import re
from typing import Any

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "params", "network", "net", "segmenter", "module",
    "weights", "student", "teacher", "params_ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema",
)  # fmt: skip
"""Keys of nested dicts with arrays, preferred ones first: model before averages, student before teacher."""

_DEEPEST_WRAPPING = 4
_MOST_TABLES = 100

NEUTRAL = ("module", "Scale", "_orig_mod", "dinov2", "segformer")
"""Prefixes that do not distinguish networks of one file."""

PREFIXES = (
    *NEUTRAL, "model", "network", "net", "segmenter", "backbone", "encoder", "student", "teacher", "model_ema",
    "ema_model", "network_ema", "ema",
)  # fmt: skip
"""Known prefixes of names, without the dot; among networks of one file the earlier is preferred."""

_PREFIX = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})\.){{1,8}}")


def wrapped_tables(content: Any, is_array: Any) -> list[tuple[tuple[str, ...], dict[Any, Any]]]:
    """Finds all dicts that contain arrays.

    Args:
        content: an unpickled object; dicts may contain themselves.
        is_array: returns whether a value is an array.

    Returns:
        Pairs of the path of keys and the dict, preferred ones first.
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
    """Splits a name into its known prefixes, such as "module.backbone.", and the rest."""
    found = _PREFIX.match(name)
    return (found[0], name[found.end() :]) if found else ("", name)


def roles(prefix: str) -> tuple[str, ...]:
    """Returns the words of a prefix that may distinguish networks of one file."""
    return tuple(word for word in prefix.split(".")[:-1] if word not in NEUTRAL)
