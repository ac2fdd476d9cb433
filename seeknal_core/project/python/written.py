"""What the decorators of a Python file say, read without running it.

A file is read by parsing where its nodes are functions at its top level and what their
decorators are given is written out: literals, and names of the module that are given a
literal once. Anything else is computed, and only running the file tells what it says.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.pipeline import Use
from seeknal_core.project.python.code import Modules
from seeknal_core.project.python.scopes import (
    PIPELINE,
    at_import,
    bound_names,
    changed_names,
    imports_pipeline,
    outer_names,
    tainted,
)

#: How many values and characters a decorator may be given, names written out.
_MOST = 100_000
_WORDS = ("source", "transform", "materialize")


class Computed(Exception):
    """What a file declares is only known when it runs."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


@attrs.frozen(kw_only=True)
class Written:
    """What the decorators of one function say.

    ``name`` and ``qualname`` are the function's, ``text`` its source. ``kinds`` are the uses
    of ``@source`` and ``@transform``, ``targets`` those of ``@materialize``, the lowest
    first.
    """

    name: str
    qualname: str
    text: str
    kinds: tuple[tuple[str, Use], ...] = ()
    targets: tuple[Use, ...] = ()


def read_written(file: Path, modules: Modules, *, strict: bool) -> list[Written]:
    """Read the nodes of a file in the order of their functions.

    Args:
        strict: whether a decorator that nothing is known of counts as computed. Else it is
            taken for one that leaves the function's name as it is and makes no node.

    Raises:
        Computed: the file has to run for it.
        SyntaxError: it is no Python.
        TypeError: something else than a function is decorated, with its line.
    """
    return _Reader(file, modules, strict=strict).read()


class _Reader:
    def __init__(self, file: Path, modules: Modules, *, strict: bool) -> None:
        self._tree = modules.tree(file)
        self._lines = io.StringIO(modules.text(file)).readlines()
        self.tainted = tainted(file, self._tree, modules)
        self._strict = strict
        #: What a name of the module stands for, dotted, where an import made it.
        self._imported: dict[str, str] = {}
        self._bound = Counter(bound_names(self._tree))
        #: Uses of names that are accounted for.
        self._known: set[int] = set()
        self._constants: dict[str, object] = {}
        #: How much each of them is when it is written out: names in names double quickly.
        self._sizes: dict[str, int] = {}
        self._left = 0

    def read(self) -> list[Written]:
        self._read_imports()
        found = []
        changed = changed_names(self._tree, lambda node: self._word(node) is not None)
        bounds = [_first_line(each) - 1 for each in self._tree.body[1:]] + [len(self._lines)]
        for statement, bound in zip(self._tree.body, bounds, strict=False):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._note(name, value, changed)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._note(name, value, changed)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    written = self._function(statement, bound)
                    if written is not None:
                        found.append(written)
                case ast.ClassDef():
                    self._refuse_class(statement)
        self._look_for_other_uses()
        return found

    def _read_imports(self) -> None:
        """Note what the imports at the top level bind, and refuse those of the decorators below."""
        top = set(map(id, self._tree.body))
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        self._bind(alias.asname, alias.name, node, top)
                    else:
                        first = alias.name.partition(".")[0]
                        self._bind(first, first, node, top)
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    if alias.name != "*":
                        whole = f"{module}.{alias.name}" if node.module else module + alias.name
                        self._bind(alias.asname or alias.name, whole, node, top)
                    elif module == PIPELINE and id(node) in top:
                        for word in _WORDS:
                            self._bind(word, f"{PIPELINE}.{word}", node, top)
                    elif id(node) in top and self._mentions_pipeline():
                        raise Computed(node.lineno, f"from {module} import * may bind any name")

    def _mentions_pipeline(self) -> bool:
        return any(imports_pipeline(node) for node in ast.walk(self._tree))

    def _bind(self, name: str, whole: str, node: ast.stmt, top: set[int]) -> None:
        if id(node) in top:
            self._imported[name] = whole
        elif whole == PIPELINE or whole.startswith(f"{PIPELINE}."):
            raise Computed(node.lineno, f"{PIPELINE} is imported below the top level")

    def _dotted(self, expression: ast.expr) -> str | None:
        """Return what an expression names, by the imports; None for anything but names."""
        names: list[str] = []
        while isinstance(expression, ast.Attribute):
            names.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        first = self._imported.get(expression.id, expression.id)
        return ".".join([first, *reversed(names)])

    def _word(self, expression: ast.expr) -> str | None:
        """Return which of our decorators an expression names."""
        dotted = self._dotted(expression)
        if dotted is None:
            return None
        module, _, word = dotted.rpartition(".")
        return word if module == PIPELINE and word in _WORDS else None

    def _function(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, bound: int
    ) -> Written | None:
        kinds: list[tuple[str, Use]] = []
        targets: list[Use] = []
        below: list[ast.expr] = []
        others: list[ast.expr] = []
        for decorator in reversed(function.decorator_list):
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            word = self._word(called)
            if word is None:
                others.append(decorator)
                continue
            self._account_for(called)
            # What stands above ours gets the function when all is noted.
            below, others = [*below, *others], []
            use = Use(plain(self._options(decorator)), decorator.lineno)
            if word != "materialize":
                kinds.append((word, use))
            elif isinstance(decorator, ast.Call):
                targets.append(use)
            else:
                raise Computed(decorator.lineno, "@materialize is given nothing")
        if self._strict:
            for decorator in others:
                self._refuse_unknown(decorator)
            for decorator in below:
                raise Computed(decorator.lineno, "a decorator below may change the function")
        if not kinds and not targets:
            return None
        return Written(
            name=function.name,
            qualname=function.name,
            text=self._text(function, bound),
            kinds=tuple(kinds),
            targets=tuple(targets),
        )

    def _account_for(self, called: ast.expr) -> None:
        while isinstance(called, ast.Attribute):
            called = called.value
        self._known.add(id(called))

    def _options(self, decorator: ast.expr) -> dict[str, object]:
        if not isinstance(decorator, ast.Call):
            return {}
        if decorator.args:
            raise Computed(decorator.lineno, "the decorator is given a value without a name")
        options: dict[str, object] = {}
        self._left = _MOST
        for keyword in decorator.keywords:
            value = self._value(keyword.value)
            if keyword.arg is not None:
                options[keyword.arg] = value
            elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
                options.update(value)
            else:
                raise Computed(decorator.lineno, "the decorator's arguments are computed")
        return options

    def _refuse_unknown(self, decorator: ast.expr) -> None:
        """Refuse a decorator that may make a node."""
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        first = (self._dotted(called) or "").partition(".")[0]
        known = first in sys.stdlib_module_names or hasattr(builtins, first)
        if not (known or (first in self._bound and first not in self._imported)):
            raise Computed(decorator.lineno, f"@{ast.unparse(called)} may make a node")

    def _refuse_class(self, statement: ast.ClassDef) -> None:
        for decorator in statement.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if self._word(called) is not None:
                error = TypeError("a node is made of a function")
                error.lineno = decorator.lineno  # type: ignore[attr-defined]
                raise error

    def _look_for_other_uses(self) -> None:
        """Refuse uses of the decorators, and of modules that use them, that were not read."""
        for name in self._imported:
            is_ours = _is_of_pipeline(self._imported[name])
            if is_ours and self._bound[name] > 1:
                raise Computed(1, f"the name {name} is bound more than once")
        for node in outer_names(self._tree):
            whole = self._imported.get(node.id, "")
            if id(node) not in self._known and _is_of_pipeline(whole):
                raise Computed(node.lineno, f"{node.id} is used in another way than as a decorator")
        for each in at_import(self._tree):
            if isinstance(each, ast.Name) and each.id in self.tainted:
                raise Computed(each.lineno, f"{each.id} comes from a module that makes nodes")

    def _note(self, name: str, value: ast.expr, changed: frozenset[str]) -> None:
        """Keep a name's value, if it is a literal and stays what it is."""
        if self._bound[name] != 1:
            return
        self._left = _MOST
        try:
            found = self._value(value)
        except Computed:
            return
        if _is_fixed(found) or name not in changed:
            self._constants[name] = found
            self._sizes[name] = _MOST - self._left

    def _spend(self, size: int, place: ast.expr) -> None:
        self._left -= size
        if self._left < 0:
            raise Computed(place.lineno, "the decorator is given very much")

    def _value(self, expression: ast.expr) -> object:
        self._spend(1, expression)
        match expression:
            case ast.Constant(value=value) if value is not ...:
                self._spend(len(value) if isinstance(value, str | bytes) else 0, expression)
                return value
            case ast.Name(id=name) if name in self._constants:
                self._spend(self._sizes[name], expression)
                return self._constants[name]
            case ast.List(elts=items):
                return self._items(items)
            case ast.Tuple(elts=items):
                return tuple(self._items(items))
            case ast.Set(elts=items):
                return self._hashed(set, self._items(items), expression)
            case ast.Dict(keys=keys, values=values):
                return self._mapping(keys, values, expression)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._sum(self._value(left), self._value(right), expression)
            case ast.JoinedStr(values=parts):
                return "".join(self._part(part) for part in parts)
        raise Computed(expression.lineno, "the decorator's arguments are computed")

    def _items(self, items: Sequence[ast.expr]) -> list[object]:
        found: list[object] = []
        for item in items:
            if isinstance(item, ast.Starred):
                value = self._value(item.value)
                if not isinstance(value, list | tuple):
                    raise Computed(item.lineno, "the decorator's arguments are computed")
                found += value
            else:
                found.append(self._value(item))
        return found

    def _mapping(
        self, keys: Sequence[ast.expr | None], values: Sequence[ast.expr], place: ast.expr
    ) -> dict[object, object]:
        pairs: list[tuple[object, object]] = []
        for key, value in zip(keys, values, strict=True):
            found = self._value(value)
            if key is not None:
                pairs.append((self._value(key), found))
            elif isinstance(found, dict):
                pairs += found.items()
            else:
                raise Computed(place.lineno, "the decorator's arguments are computed")
        made: dict[object, object] = self._hashed(dict, pairs, place)
        return made

    @staticmethod
    def _hashed(make: type, items: object, place: ast.expr) -> Any:
        try:
            return make(items)
        except TypeError:
            raise Computed(place.lineno, "the decorator's arguments are computed") from None

    @staticmethod
    def _sum(left: object, right: object, place: ast.expr) -> object:
        match left, right:
            case str(), str():
                return left + right
            case list(), list():
                return left + right
            case tuple(), tuple():
                return left + right
        raise Computed(place.lineno, "the decorator's arguments are computed")

    def _part(self, part: ast.expr) -> str:
        match part:
            case ast.Constant(value=str(text)):
                return text
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                found = self._value(value)
                if isinstance(found, str | int):
                    return f"{found}"
        raise Computed(part.lineno, "the decorator's arguments are computed")

    def _text(self, function: ast.FunctionDef | ast.AsyncFunctionDef, bound: int) -> str:
        """Return the function's source, decorators included, as `inspect.getsource` does.

        Args:
            bound: how many lines there are before the next statement.
        """
        first = _first_line(function)
        try:
            return "".join(inspect.getblock(self._lines[first - 1 : bound]))
        except (tokenize.TokenError, SyntaxError, IndentationError):
            return "".join(self._lines[first - 1 : function.end_lineno])


def plain(value: Any) -> Any:
    """Turn Python's values into those that YAML has."""
    match value:
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case str():
            return value
        case tuple() | list():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted(plain(item) for item in value)
        case Enum():
            return plain(value.value)
        case date():
            return value.isoformat()
        case timedelta():
            return f"{int(value.total_seconds())}s"
        case _:
            return value


def _is_of_pipeline(whole: str) -> bool:
    return whole == PIPELINE or whole.startswith(f"{PIPELINE}.") or whole == "seeknal_core"


def _is_fixed(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_fixed(item) for item in value)
    return isinstance(value, str | bytes | int | float | complex | None)


def _first_line(statement: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(statement, "decorator_list", ())
    return min([statement.lineno, *(each.lineno for each in decorators)])
