"""Names in src: one class per name, and no function with the name of a module in its room."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "clan"
FILES = sorted(SOURCE.rglob("*.py"))
ENTRY_POINTS = {"main"}
REPLACEMENTS = "kernels"  # functions named like those they replace


def test_two_classes_never_share_a_name():
    places = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_function_is_named_like_a_module_of_its_room():
    modules, functions = defaultdict(set), defaultdict(set)
    for path in FILES:
        room = path.relative_to(SOURCE).parts[0]
        modules[room].add(path.stem)
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and node.name not in ENTRY_POINTS:
                functions[room].add(node.name)
    assert {room: both for room in modules.keys() - {REPLACEMENTS} if (both := modules[room] & functions[room])} == {}
