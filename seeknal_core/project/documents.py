"""The files under ``seeknal/``: finding them, and what each kind of file holds."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.contract.types import Location
from seeknal_core.files.cache import Cache, key_of
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.nodes import Skipped, SqlText, is_without_sql, read_node
from seeknal_core.project.parsed import Unpackable, pack, unpack
from seeknal_core.project.places import Closed, Places
from seeknal_core.project.specs import SourceNode, SqlNode
from seeknal_core.project.yaml import Document, parse, read_text

NODES_DIR = "seeknal"
_COMMON_DIR = "common"
#: Top-level keys of a 2.x file of shared definitions, which holds no nodes.
_COMMON_KEYS = frozenset({"sources", "rules", "transformations"})

#: ``/* --- yaml --- */`` before the SQL: three dashes, YAML, three dashes. The word
#: ``yaml`` behind the opening dashes and the closing dashes may be left out.
_HEADER_START = re.compile(r"\s*+/\*\s*+---[ \t]*+(?:yaml\b[ \t]*+)?(?:---[ \t]*+)?")
_HEADER_END = re.compile(r"\s---\Z")


@attrs.frozen(kw_only=True)
class _Header:
    """Where a SQL file's fields are: the YAML between ``start`` and ``end``, and the comment's end."""

    start: int
    end: int
    comment_end: int


def _header_of(text: str, file: str) -> _Header | None:
    """Find the comment with the fields at the beginning of a SQL file.

    Raises:
        ConfigError: it is not closed.
    """
    start = _HEADER_START.match(text)
    if start is None:
        return None
    # "/*---*/" and its like: the dashes that open it may be the comment's last ones.
    close = text.find("*/", start.start())
    if close < 0:
        raise ConfigError([Problem("the comment with the fields is not closed by */", file, 1)])
    begin = min(start.end(), close)
    inside = text[begin:close].rstrip()
    ending = _HEADER_END.search(f" {inside}"[-5:])
    end = begin + len(inside) - (3 if ending else 0)
    return _Header(start=begin, end=max(begin, end), comment_end=close + 2)


@attrs.frozen(kw_only=True)
class NodeFiles:
    """The files that may hold nodes, absolute, in a fixed order."""

    yaml: tuple[Path, ...]
    sql: tuple[Path, ...]
    python: tuple[Path, ...]


def relative(path: Path, root: Path) -> str:
    """Name a file in messages: relative to the root where it is below, with ``/``."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def find_files(root: Path, collector: Collector, places: Places | None = None) -> NodeFiles:
    """Find all files under ``seeknal/``; hidden ones are no part of the project.

    Links to folders are followed, each folder is entered once. A link that leads out of
    `places` (by default what lies below `root`) is a mistake.
    """
    found: dict[str, list[Path]] = {"yaml": [], "sql": [], "python": []}
    suffixes = {".yml": "yaml", ".yaml": "yaml", ".sql": "sql", ".py": "python"}
    for path in _walk(root, root / NODES_DIR, collector, places or Places.of(root)):
        kind = suffixes.get(path.suffix.lower())
        if kind is None:
            continue
        inside = path.relative_to(root / NODES_DIR)
        if kind == "python" and (path.name.startswith("_") or inside.parts[0] == _COMMON_DIR):
            continue
        found[kind].append(path)
    return NodeFiles(**{kind: tuple(sorted(paths)) for kind, paths in found.items()})


def _walk(root: Path, top: Path, collector: Collector, places: Places) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        if isinstance(error, FileNotFoundError) and error.filename == str(top):
            return
        folder = relative(Path(error.filename), root)
        collector.problems.append(Problem(f"cannot be read: {error.strerror}", folder))

    def leads_out(path: str) -> bool:
        try:
            places.check(path)
        except Closed as closed:
            hint = places.way_out(closed, folder=os.path.isdir(path), relative=False)
            where = f"leads to {closed.real}, which {closed.message}"
            collector.problems.append(Problem(where, relative(Path(path), root), hint=hint))
            return True
        return False

    entered: set[tuple[int, int]] = set()
    if os.path.islink(top) and leads_out(str(top)):
        return
    for folder, subfolders, names in os.walk(top, onerror=unreadable, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and name != "__pycache__"
            and not (os.path.islink(each := os.path.join(folder, name)) and leads_out(each))
        )
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.startswith(".") or (os.path.islink(path) and leads_out(path)):
                continue
            yield Path(path)


class NodeReader:
    """Reads YAML and SQL files into nodes; mistakes go to the collector.

    ``cache`` spares files that have not changed the parsing.
    """

    def __init__(
        self, root: Path, collector: Collector, cache: Cache, *, ignore_unsupported: bool
    ) -> None:
        self.nodes: list[SourceNode | SqlNode] = []
        self.skipped: dict[str, Location] = {}
        self._root = root
        self._collector = collector
        self._cache = cache
        self._ignore_unsupported = ignore_unsupported

    def read(self, files: NodeFiles) -> None:
        """Read all YAML and SQL files; those that differ in their suffix only belong together."""
        units: dict[str, list[Path]] = {}
        for path in (*files.yaml, *files.sql):
            units.setdefault(os.path.splitext(path)[0], []).append(path)
        for _, paths in sorted(units.items()):
            self._read_unit(paths)

    def _read_unit(self, paths: Sequence[Path]) -> None:
        texts: dict[Path, str] = {}
        for path in paths:
            try:
                texts[path] = read_text(path, relative(path, self._root))
            except ConfigError as error:
                self._collector.problems += error.problems
        parts = [part for path in texts for part in (relative(path, self._root), texts[path])]
        key = key_of(*parts)
        found = self._cache.get(key)
        if found is not None:
            with contextlib.suppress(ValueError):
                self.nodes += unpack(found)
                return
        start, noted = len(self.nodes), self._noted()
        self._parse_unit(texts)
        if self._noted() == noted:
            # What somebody has to be told of is parsed again, to be told again.
            with contextlib.suppress(Unpackable):
                self._cache.put(key, pack(self.nodes[start:]))

    def _noted(self) -> tuple[int, int]:
        return self._collector.noted, len(self.skipped)

    def _parse_unit(self, texts: Mapping[Path, str]) -> None:
        sql = next((path for path in texts if path.suffix.lower() == ".sql"), None)
        sibling: Document | None = None
        for path, text in texts.items():
            if path.suffix.lower() == ".sql":
                continue
            for document in self._documents(path, text):
                if sql is None or not is_without_sql(document):
                    self._take(document)
                elif sibling is not None:
                    message = f"a second document about {relative(sql, self._root)}"
                    self._collector.add(document, "", message)
                else:
                    sibling = document
        for path, text in texts.items():
            if path.suffix.lower() == ".sql":
                self._read_sql(path, text, sibling if path == sql else None)

    def _documents(self, path: Path, text: str) -> list[Document]:
        file = relative(path, self._root)
        try:
            documents = parse(text, file, problems=self._collector.problems)
        except ConfigError as error:
            self._collector.problems += error.problems
            return []
        if not documents:
            self._collector.problems.append(Problem("holds no node", file))
        in_common = path.relative_to(self._root / NODES_DIR).parts[0] == _COMMON_DIR
        return [each for each in documents if not (in_common and self._is_common(each))]

    def _is_common(self, document: Document) -> bool:
        value = document.value
        if not isinstance(value, Mapping) or "kind" in value or not _COMMON_KEYS & value.keys():
            return False
        for key in value:
            self._collector.legacy(document, key, f"{NODES_DIR}/{_COMMON_DIR}: {key}")
        return True

    def _read_sql(self, path: Path, text: str, sibling: Document | None) -> None:
        file = relative(path, self._root)
        try:
            header = _header_of(text, file)
            document = sibling or Document(file=file, value={}, places={})
            if header is not None:
                document = self._header(text, header, file, sibling)
        except ConfigError as error:
            self._collector.problems += error.problems
            return
        start = header.comment_end if header is not None else 0
        start += len(text[start:]) - len(text[start:].lstrip())
        line = text.count("\n", 0, start) + 1
        column = start - (text.rfind("\n", 0, start) + 1) + 1
        location = Location(file=file, line=line, column=column)
        sql = SqlText(text=text[start:], location=location)
        self._take(document, default_name=path.stem, sql=sql)

    def _header(self, text: str, header: _Header, file: str, sibling: Document | None) -> Document:
        if sibling is not None:
            hint = f"keep the fields here or in {sibling.file}"
            raise ConfigError([Problem("has fields in two places", file, 1, hint=hint)])
        # Blanks in front keep lines and columns as they are in the file.
        before = re.sub(r"[^\n]", " ", text[: header.start])
        documents = parse(
            before + text[header.start : header.end], file, problems=self._collector.problems
        )
        if len(documents) > 1:
            raise ConfigError(
                [documents[1].problem("", "a second document", "one node a SQL file")]
            )
        return documents[0] if documents else Document(file=file, value={}, places={})

    def _take(
        self, document: Document, *, default_name: str | None = None, sql: SqlText | None = None
    ) -> None:
        node = read_node(document, self._collector, default_name=default_name, sql=sql)
        if isinstance(node, Skipped):
            if self._ignore_unsupported:
                self.skipped[node.id] = node.location
            else:
                kind = node.id.partition(".")[0]
                hint = "remove the node, or skip such nodes with --ignore-unsupported"
                self._collector.add(document, "kind", f"kind {kind!r} is not supported", hint)
        elif node is not None:
            self.nodes.append(node)
