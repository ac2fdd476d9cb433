"""Which names a Python file binds, and where: scopes, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from seeknal_core.project.python.code import Modules

#: Where the decorators are.
PIPELINE = "seeknal_core.pipeline"
_MUTATING = frozenset(
    {"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update"}
    | {"setdefault", "popitem", "add", "discard", "__setitem__", "__delitem__"}
)


def changed_names(tree: ast.Module, is_ours: Callable[[ast.expr], bool]) -> frozenset[str]:
    """Return the names whose lists and mappings may be others when a decorator gets them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if attribute in _MUTATING:
                found.add(name)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                found.add(name)
    # What another function gets when the module is imported, it may change.
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        each, given = waiting.pop()
        if given and isinstance(each, ast.Name):
            found.add(each.id)
        given = given or (isinstance(each, ast.Call) and not is_ours(each.func))
        waiting += [(child, given) for child in _run_at_import(each)]
    return frozenset(found)


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Return each name as often as anything binds it at the module's level."""
    for node in at_import(tree):
        yield from _bound_by(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from [*node.names, *node.names]


def _bound_by(node: ast.AST) -> Sequence[str]:
    """Return the names that a node itself binds in the scope it stands in."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            return [name]
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return [name]
    return ()


_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def _locals(function: _Function) -> frozenset[str]:
    """Return the names that are a function's own."""
    given = function.args
    names = {arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    names |= {arg.arg for arg in (given.vararg, given.kwarg) if arg is not None}
    body = function.body if isinstance(function.body, list) else [function.body]
    outside: set[str] = set()
    for node in at_import(ast.Module(body=body, type_ignores=[])):  # type: ignore[arg-type]
        names.update(_bound_by(node))
        if isinstance(node, ast.Global):
            outside.update(node.names)
    return frozenset(names - outside)


def outer_names(tree: ast.Module) -> Iterator[ast.Name]:
    """Return the uses of names that mean the module's own, wherever they stand."""
    waiting: list[tuple[ast.AST, frozenset[str]]] = [(tree, frozenset())]
    while waiting:
        node, hidden = waiting.pop()
        if isinstance(node, ast.Name) and node.id not in hidden:
            yield node
        if isinstance(node, _Function):
            inner = hidden | _locals(node)
            body = node.body if isinstance(node.body, list) else [node.body]
            outer = [*getattr(node, "decorator_list", ()), node.args]
            waiting += [(each, inner) for each in body]
            waiting += [(each, hidden) for each in outer]
        else:
            waiting += [(each, hidden) for each in ast.iter_child_nodes(node)]


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Return what runs when the module is imported: all but the bodies of functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += _run_at_import(node)


def _run_at_import(node: ast.AST) -> Iterable[ast.AST]:
    """Return the parts of a node that run where it stands."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return (*node.decorator_list, node.args)
    if isinstance(node, ast.Lambda):
        return (node.args,)
    return ast.iter_child_nodes(node)


def imports_pipeline(node: ast.AST) -> bool:
    """Return whether a statement imports the decorators."""
    if isinstance(node, ast.Import):
        return any(alias.name == PIPELINE for alias in node.names)
    if isinstance(node, ast.ImportFrom) and not node.level:
        names = [alias.name for alias in node.names]
        return node.module == PIPELINE or (node.module == "seeknal_core" and "pipeline" in names)
    return False


def tainted(file: Path, tree: ast.Module, modules: Modules) -> frozenset[str]:
    """Return the names that are imported from project modules that use the decorators."""
    using = {path for path in modules.imported(file) if _uses_pipeline(path, modules)}
    names: set[str] = set()
    for node in ast.walk(tree) if using else ():
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        alone = ast.Module(body=[node], type_ignores=[])
        direct = set(modules.direct(alone, file))
        if using & direct or any(using & set(modules.imported(each)) for each in direct):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
    return frozenset(names)


def _uses_pipeline(path: Path, modules: Modules) -> bool:
    try:
        tree = modules.tree(path)
    except (SyntaxError, ValueError):
        return False
    return any(imports_pipeline(node) for node in ast.walk(tree))
