"""A function reads what it is given: an answer that ignores its arguments is a stub.

Not meant are functions whose signature somebody else decides: hook implementations, methods
that a base class or several classes have, functions that are handed on as values.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "seeknal_core",
    "plugins/postgres/seeknal_postgres",
    "plugins/iceberg/seeknal_iceberg",
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
Found = tuple[ast.ClassDef | None, _Function]


def unread(tree: ast.Module, shared: frozenset[str]) -> Iterator[str]:
    """Yield the parameters that their functions never read.

    Args:
        shared: names of methods that several classes have.
    """
    handed_on = _handed_on(tree)
    for cls, function in _functions(tree):
        is_method = cls is not None and (bool(cls.bases) or function.name in shared)
        hook = any("hookimpl" in ast.unparse(one) for one in function.decorator_list)
        special = function.name.startswith("__") and function.name != "__init__"
        if is_method or hook or special or function.name in handed_on or _is_empty(function):
            continue
        read = {
            node.id
            for statement in function.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Name)
        }
        for name in _parameters(function):
            if name not in read and name not in ("self", "cls") and not name.startswith("_"):
                yield f"{function.lineno}: {function.name}({name})"


def _functions(tree: ast.AST, cls: ast.ClassDef | None = None) -> Iterator[Found]:
    """Yield the functions, each with the class whose method it is."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, _Function):
            yield cls, child
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _functions(child, child if isinstance(child, ast.ClassDef) else None)


def _parameters(function: _Function) -> list[str]:
    args = function.args
    found = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [one.arg for one in found if one is not None]


def _is_empty(function: _Function) -> bool:
    """Return whether a function has nothing but a docstring, ``...`` or a raise."""
    return all(
        isinstance(statement, ast.Pass | ast.Raise)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in function.body
    )


def _handed_on(tree: ast.Module) -> set[str]:
    """Return the names that a module uses without calling them."""
    nodes = list(ast.walk(tree))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in called
    }


def _shared(trees: list[ast.Module]) -> frozenset[str]:
    """Return the names of methods that more than one class has."""
    counts = Counter(
        function.name
        for tree in trees
        for cls, function in _functions(tree)
        if cls is not None and not function.name.startswith("_")
    )
    return frozenset(name for name, count in counts.items() if count > 1)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_ignores_what_it_is_given(package: str) -> None:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in (ROOT / package).rglob("*.py")}
    shared = _shared(list(trees.values()))
    found = [
        f"{path.relative_to(ROOT)}:{one}"
        for path, tree in sorted(trees.items())
        for one in unread(tree, shared)
    ]
    assert found == []


def test_a_stub_is_seen() -> None:
    stub = "def classify(old, new):\n    return Change(additive=False)\n"
    assert list(unread(ast.parse(stub), frozenset())) == [
        "1: classify(old)", "1: classify(new)",
    ]  # fmt: skip
