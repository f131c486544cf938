"""How long functions and files may be, how much constructors may take: beyond that, a concept is missing."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src/clan"
LONGEST_FUNCTION, LONGEST_FILE, MOST_ARGUMENTS = 60, 400, 8

RECORD = "a record of named values, which nobody passes by position"
DRAWN = "what a drawn world is made of, one number or colour a field"
EXCEPTIONS = {
    "data:Findings": RECORD,
    "data:Header": RECORD,
    "evaluation:EvaluationOptions": RECORD,
    "reporting:RunView": RECORD,
    "reporting:Page": RECORD,
    "streets:Look": DRAWN,
    "streets:Layout": DRAWN,
}
"""What is beyond a limit, by room and name, and why. It must not grow; what is within the limits again must go."""


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a module by its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not isinstance(node, ast.ClassDef):
                yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def fields(node: ast.ClassDef) -> int:
    """What a dataclass's constructor takes: fields that are not left out with `init=False`."""
    annotated = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    kinds = [ast.unparse(one.annotation) + ast.unparse(one.value or ast.Constant(None)) for one in annotated]
    return sum(not any(word in kind for word in ("ClassVar", "KW_ONLY", "init=False")) for kind in kinds)


def excesses() -> Iterator[tuple[str, str]]:
    """Room and name of what passes a limit, and by what."""
    for path in sorted(SOURCE.rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(SOURCE).as_posix()
        room, tree = name.partition("/")[0], ast.parse(text)
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            yield name, f"{lines} lines"
        for function, node in functions(tree):
            assert node.end_lineno is not None
            if (lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                yield f"{room}:{function}", f"{lines} lines"
            arguments = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - 1
            if node.name == "__init__" and arguments > MOST_ARGUMENTS:
                yield f"{room}:{function}", f"{arguments} arguments"
        for node in ast.walk(tree):
            record = isinstance(node, ast.ClassDef) and "dataclass" in " ".join(map(ast.unparse, node.decorator_list))
            if record and (taken := fields(node)) > MOST_ARGUMENTS:
                yield f"{room}:{node.name}", f"{taken} arguments"


def test_functions_files_and_constructors_are_small():
    found = dict(excesses())
    assert {place: found[place] for place in found.keys() - EXCEPTIONS.keys()} == {}
    assert EXCEPTIONS.keys() - found.keys() == set(), "these are within the limits again: take them out"
