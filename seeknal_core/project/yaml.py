"""Files and YAML, with the place of every value.

Text is composed by libyaml; the plain Python values are made here, so that
each keeps its line and column, duplicate keys are refused, and nothing but
data comes out. YAML is 1.1, as PyYAML reads it (``yes`` is true), except that a
mapping's keys are always taken as text.
"""

from __future__ import annotations

import functools
import stat
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import yaml

from seeknal_core.contract.errors import ConfigError, OptionError, Problem
from seeknal_core.contract.options import join
from seeknal_core.contract.types import Location

#: A longer file is no configuration: it is somebody's data under a wrong name.
_MAX_BYTES = 8 * 1024 * 1024
#: libyaml composes recursively in C and would exhaust the stack.
_MAX_DEPTH = 100
_SHALLOW_LENGTH = 2_000
#: Aliases may multiply values without end ("billion laughs").
_MAX_VALUES = 200_000

_TAG = "tag:yaml.org,2002:"


class Place(NamedTuple):
    """Where a value, or its key, stands, from 1.

    ``text`` is the line and column where a scalar's text itself starts: behind the
    key, inside quotes, below the ``|`` of a block.
    """

    line: int
    column: int
    text: tuple[int, int] | None = None


class Scalar(NamedTuple):
    """A string scalar, for the function that may expand it; ``plain``: without quotes."""

    text: str
    plain: bool
    path: str
    place: Place


#: Expands a string scalar; gives the value it stands for.
Expand = Callable[[Scalar], object]


@attrs.frozen(kw_only=True)
class Document:
    """One YAML document.

    ``places`` maps a path (``targets[0].table``) to where its key stands, or, in
    a list, its item; the document's own path is empty. At the paths of ``broken``
    stands what could not be read: None, and a mistake that is told already.
    """

    file: str
    value: object
    places: Mapping[str, Place]
    broken: frozenset[str] = frozenset()

    def place(self, path: str) -> Place:
        """Return the place of `path`, or of the nearest thing around it that has one."""
        while path:
            found = self.places.get(path)
            if found is not None:
                return found
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get("", Place(1, 1))

    def location(self, path: str = "") -> Location:
        """Return `place` as a `Location`."""
        place = self.place(path)
        return Location(file=self.file, line=place.line, column=place.column)

    def problem(self, path: str, message: str, hint: str = "") -> Problem:
        """Make the `Problem` of a mistake at `path`."""
        place = self.place(path)
        return Problem(message, self.file, place.line, place.column, path, hint)

    def problems(self, error: OptionError) -> list[Problem]:
        """Return the mistakes of a structured mapping their places in this document."""
        return [
            self.problem(each.path, each.message, each.hint)
            for each in error.problems
            if each.path not in self.broken
        ]


def read_text(path: Path, file: str) -> str:
    """Read a text file that a person wrote.

    Args:
        file: how messages name it.

    Raises:
        ConfigError: it is absent, unreadable, no regular file, far too large,
            binary, not UTF-8 or empty.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(file, "is not a regular file")
        if status.st_size > _MAX_BYTES:
            raise _unreadable(file, f"is larger than {_MAX_BYTES // 1024**2} MB")
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(file, f"cannot be read: {error.strerror or error}") from None
    if b"\0" in data:
        raise _unreadable(file, "is a binary file, not text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8: byte 0x{data[error.start]:02x}"
        raise ConfigError([Problem(message, file, line, hint="save it as UTF-8")]) from None
    if not text.strip():
        raise _unreadable(file, "is empty")
    return text.replace("\r\n", "\n")


def _unreadable(file: str, message: str) -> ConfigError:
    return ConfigError([Problem(message, file)])


def parse(
    text: str,
    file: str,
    *,
    expand: Expand | None = None,
    problems: list[Problem] | None = None,
) -> list[Document]:
    """Parse all documents of a text; documents without a value are left out.

    Args:
        file: how messages name it.
        expand: called with each string scalar; may raise `OptionError`, whose
            problems get the scalar's place.
        problems: takes the mistakes that leave documents to look further at:
            duplicate keys, keys that are no scalars, tags of languages, a failed
            `expand`. None: they are raised.

    Raises:
        ConfigError: the text is not YAML, or holds such mistakes.
    """
    try:
        _check_depth(text)
        nodes = list(_compose(text))
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error, text, file)]) from None
    documents: list[Document] = []
    found: list[Problem] = []
    for node in nodes:
        builder = _Builder(file, expand, text)
        value = builder.build(node, "")
        found += builder.problems
        if value is not None:
            builder.places.setdefault("", _place(node))
            documents.append(
                Document(
                    file=file,
                    value=value,
                    places=builder.places,
                    broken=frozenset(builder.broken),
                )
            )
    if found and problems is None:
        raise ConfigError(found)
    if problems is not None:
        problems += found
    return documents


def parse_one(
    text: str,
    file: str,
    *,
    expand: Expand | None = None,
    problems: list[Problem] | None = None,
) -> Document:
    """Parse a file that holds one mapping.

    Args:
        problems: as for `parse`.

    Raises:
        ConfigError: as `parse`; or there are several documents, or no mapping.
    """
    found: list[Problem] = []
    documents = parse(text, file, expand=expand, problems=found)
    if not documents:
        found.append(Problem("is empty", file))
    elif len(documents) > 1:
        found.append(documents[1].problem("", "a second document", "remove the '---' line"))
    elif not isinstance(documents[0].value, Mapping):
        found.append(documents[0].problem("", "is not a mapping", "write key: value"))
    elif problems is not None:
        problems += found
        return documents[0]
    if found:
        raise ConfigError(found)
    return documents[0]


def _compose(text: str) -> Iterator[yaml.Node]:
    loader = yaml.CSafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    if len(text) < _SHALLOW_LENGTH:
        return
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                mark: Any = event.start_mark
                raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a character that YAML does not allow
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1 if position else 0
        return Problem("is not YAML: a character that is not allowed", file, line)
    what = str(getattr(error, "problem", None) or "cannot be parsed")
    lines = text.split("\n")
    # At the end of a text that ends without a newline, libyaml is a line further.
    line, column = mark.line, mark.column
    if line >= len(lines):
        line, column = len(lines) - 1, len(lines[-1])
    line_text = lines[line]
    hint = ""
    # libyaml quotes what it found; an alias or a tag may be a password without quotes.
    if "alias" in what:
        what, hint = "an alias (*) of nothing", "put quotes around a value that starts with *"
    elif "tag" in what:
        what, hint = "a tag that is not allowed", "put quotes around a value that starts with !"
    elif "nesting depth" in what:  # libyaml's own limit, which is sometimes the lower one
        what = "nested too deeply"
    elif "\t" in line_text[: column + 1]:
        hint = "indent with spaces, not tabs"
    elif "${" in line_text:
        hint = 'inside { } and [ ] write "${VAR}" with quotes'
    elif "mapping values are not allowed" in what:
        hint = "put quotes around a value that holds ': '"
    return Problem(f"is not YAML: {what}", file, line + 1, column + 1, hint=hint)


def _place(node: yaml.Node) -> Place:
    mark = node.start_mark
    return Place(mark.line + 1, mark.column + 1)


class _Builder:
    """Makes plain values of one document's nodes."""

    def __init__(self, file: str, expand: Expand | None, text: str) -> None:
        self.file = file
        self._text = text
        self.expand = expand
        self.places: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self.broken: set[str] = set()
        self._open: set[int] = set()
        self._count = 0
        self._overflown = False

    def problem(self, node: yaml.Node, path: str, message: str, hint: str = "") -> None:
        place = _place(node)
        self.problems.append(Problem(message, self.file, place.line, place.column, path, hint))

    def build(self, node: yaml.Node, path: str) -> Any:
        self._count += 1
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self.problem(node, path, "an alias inside of what it stands for")
            self.broken.add(path)
            return None
        if len(self._open) >= _MAX_DEPTH:
            self.problem(node, path[:40], "nested too deeply")
            self.broken.add(path)
            return None
        if self._count > _MAX_VALUES:
            if not self._overflown:
                self.problem(node, path, "holds too many values")
                self._overflown = True
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return self._sequence(typing.cast(yaml.SequenceNode, node), path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: yaml.SequenceNode, path: str) -> list[object]:
        if node.tag != _TAG + "seq":
            self._bad_tag(node, path)
        values = []
        for index, item in enumerate(node.value):
            below = join(path, index)
            self.places[below] = _place(item)
            values.append(self.build(item, below))
        return values

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, object]:
        if node.tag != _TAG + "map":
            self._bad_tag(node, path)
        values: dict[str, object] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                hint = 'put quotes around a template: "{{ ... }}"'
                self.problem(key_node, path, "a mapping or a list stands as a key", hint)
                continue
            if key_node.tag == _TAG + "merge":
                merged.append(value_node)
                continue
            key = key_node.value
            below = join(path, key)
            if key in first:
                self.problem(key_node, below, f"is written twice, first on line {first[key]}")
                continue
            place = _place(key_node)
            first[key] = place.line
            if isinstance(value_node, yaml.ScalarNode):
                place = place._replace(text=self._start(value_node))
            self.places[below] = place
            values[key] = self.build(value_node, below)
        for source in merged:
            self._merge(source, path, values)
        return values

    def _merge(self, source: yaml.Node, path: str, values: dict[str, object]) -> None:
        # https://yaml.org/type/merge.html: keys written out win, earlier mappings win.
        parts = source.value if isinstance(source, yaml.SequenceNode) else [source]
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                self.problem(part, path, "'<<' takes a mapping", "write <<: *anchor")
                continue
            known = dict(self.places)
            for key, value in (self.build(part, path) or {}).items():
                values.setdefault(key, value)
            self.places.update(known)

    def _scalar(self, node: yaml.ScalarNode, path: str) -> object:
        tag = node.tag.removeprefix(_TAG)
        if tag == "str":
            return self._string(node, path)
        if tag == "value":  # a lone '='
            return node.value
        if tag not in ("null", "bool", "int", "float", "timestamp"):
            self._bad_tag(node, path)
            return None
        try:
            return _resolve(tag, node)
        # A tag that is written out (!!bool maybe) was not matched to its text before.
        except (ValueError, ArithmeticError, LookupError, AttributeError):
            self.problem(node, path, f"is no {tag}", "put quotes around it")
            self.broken.add(path)
            return None

    def _start(self, node: yaml.ScalarNode) -> tuple[int, int]:
        """Return where a scalar's text starts."""
        line, column, _ = _place(node)
        if node.style not in ("|", ">"):
            return line, column + (1 if node.style else 0)
        written = node.value.lstrip("\n").partition("\n")[0]
        for found in self._text.split("\n")[line:]:
            if found.strip():
                return line + 1, found.find(written) + 1 if node.style == "|" else 1
        return line + 1, 1

    def _string(self, node: yaml.ScalarNode, path: str) -> object:
        if self.expand is None:
            return node.value
        scalar = Scalar(node.value, node.style is None or node.style == "", path, _place(node))
        try:
            return self.expand(scalar)
        except OptionError as error:
            for each in error.problems:
                self.problem(node, path, each.message, each.hint)
            self.broken.add(path)
            return None

    def _bad_tag(self, node: yaml.Node, path: str) -> None:
        hint = "put quotes around a value that starts with !"
        self.problem(node, path, "a tag that is not allowed", hint)
        self.broken.add(path)


def _resolve(tag: str, node: yaml.ScalarNode) -> object:
    if tag == "null":
        return None
    constructor = _constructor()
    return getattr(constructor, f"construct_yaml_{tag}")(node)


def resolve_plain(text: str) -> object:
    """Return what a scalar without quotes means: ``5432`` a number, ``true`` a truth value.

    Dates stay text, and so does what resolves to nothing.
    """
    tag = _resolver().resolve(yaml.ScalarNode, text, (True, False)).removeprefix(_TAG)
    if tag not in ("bool", "int", "float"):
        return text
    try:
        return _resolve(tag, yaml.ScalarNode(_TAG + tag, text))
    except (ValueError, ArithmeticError):
        return text


@functools.cache
def _constructor() -> Any:
    return yaml.constructor.SafeConstructor()


@functools.cache
def _resolver() -> Any:
    return yaml.resolver.Resolver()
