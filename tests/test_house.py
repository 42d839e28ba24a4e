"""Easy to read: how long functions and files are, and how many parameters a signature has."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FUNCTION, FILE, PARAMETERS = 60, 400, 8  # at most so many lines, or parameters
FILES = sorted((ROOT / "revisit_ssl").rglob("*.py")) + sorted((ROOT / "experiments").rglob("*.py"))
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path):
    """[(file:line name, node)] of all functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(ROOT)
    return [(f"{where}:{n.lineno} {n.name}", n) for n in ast.walk(tree) if isinstance(n, FUNCTIONS)]


def lines_of(function):
    """From its def to its end, without decorators and docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def parameters_of(function):
    """Their names, without self and cls; *args and **kwargs count as one each."""
    given = function.args
    names = [a.arg for a in [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg] if a]
    return [name for name in names if name not in ("self", "cls")]


def test_what_is_counted():
    (function,) = ast.parse('@d\ndef f(self, a, /, b=1, *c, e, **g):\n    """Two\n    lines."""\n    return 1\n').body
    assert (lines_of(function), parameters_of(function)) == (2, ["a", "b", "e", "c", "g"])


@pytest.mark.parametrize(
    ("limit", "measure"), [(FUNCTION, lines_of), (PARAMETERS, lambda f: len(parameters_of(f)))],
    ids=["lines of a function", "parameters of a signature"],
)
def test_functions_stay_small(limit, measure):
    found = [(measure(node), name) for path in FILES for name, node in functions(path)]
    assert len(found) > 1000
    over = [f"{name}: {count}" for count, name in sorted(found, reverse=True) if count > limit]
    assert not over, f"more than {limit}: {over}"


def test_files_stay_small():
    over = {str(path.relative_to(ROOT)): n for path in FILES if (n := len(path.read_text().splitlines())) > FILE}
    assert not over, f"more than {FILE} lines: {over}"
