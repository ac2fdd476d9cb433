"""The folder of state: an environment's record, its journal, and the documents beside it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.contract.errors import StateError
from seeknal_core.contract.shown import first_few
from seeknal_core.files.regular import read_regular
from seeknal_core.state.documents import (
    fields_of,
    free_name,
    read_document,
    state_error,
    sync_folder,
    write_atomically,
    write_document,
)
from seeknal_core.state.journal import Journal, entry_of
from seeknal_core.state.locks import exclusive_lock
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, TargetRecord, record_of

#: Without ``--debug`` what is of level warning goes to standard error, and nothing else.
log = logging.getLogger("seeknal")

#: Raised when an earlier version could not read what is written.
_VERSION = 2
_ID = re.compile(r"[0-9a-f]{32}")


class StateStore:
    """The state folder of one checkout, ``target/state``.

    Reading never writes: a command that only looks leaves no trace.
    """

    def __init__(self, folder: Path) -> None:
        #: Journals whose unreadable lines were told.
        self._warned: set[Path] = set()
        self._folder = folder
        self._environments = folder / "environments"
        self._nodes: tuple[dict[str, set[str]], set[tuple[str, str]]] | None = None
        self._nodes_lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self._folder

    def state_id(self, *, create: bool) -> str:
        """Return the id of this state folder, making it on the first write."""
        path = self._folder / "id"
        try:
            found = read_regular(path).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            found = ""
        except OSError as error:
            raise state_error(error, path) from error
        if _ID.fullmatch(found):
            return found
        # Missing or damaged: as after the folder was deleted.
        fresh = uuid.uuid4().hex
        if not create:
            return fresh
        made = path.with_name(f".id.{free_name()}")
        write_atomically(made, fresh + "\n")
        try:
            if path.exists():
                os.replace(made, path)
            else:
                # Of two first commands at once the second takes the first one's id.
                with contextlib.suppress(FileExistsError):
                    os.link(made, path)
                made.unlink()
        except OSError as error:
            raise state_error(error, path) from error
        return self.state_id(create=False)

    def names(self) -> tuple[str, ...]:
        """List the recorded environments."""
        if not self._environments.is_dir():
            return ()
        # A command that died in an environment's first run left a journal alone.
        paths = self._environments.iterdir()
        return tuple(sorted({p.stem for p in paths if p.suffix in (".json", ".journal")}))

    def load(self, name: str) -> EnvironmentRecord | None:
        """Load an environment's record, what a dead command left included."""
        path = self._environments / f"{name}.json"
        data = read_document(path, _VERSION)
        record = record_of(data, path) if data is not None else None
        entries = list(self._journal_entries(name))
        if not entries:
            return record
        record = record or EnvironmentRecord(name=name)
        nodes, targets = dict(record.nodes), dict(record.targets)
        for id, held in entries:
            if isinstance(held, NodeRecord):
                nodes[id] = held
            else:
                targets[id] = held
        return attrs.evolve(record, nodes=nodes, targets=targets)

    def documents_of(self, content_key: str, *, anew: bool = False) -> Collection[str]:
        """Return the digests of a snapshot's documents that any environment recorded.

        Args:
            anew: look at the records again, which other commands may have changed.
        """
        return self._known_nodes(anew)[0].get(content_key, ())

    def holds(self, node: str, content_key: str, *, anew: bool = False) -> bool:
        """Return whether any environment recorded a content key as a node's."""
        return (node, content_key) in self._known_nodes(anew)[1]

    def _known_nodes(self, anew: bool) -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
        with self._nodes_lock:
            if self._nodes is None or anew:
                documents: dict[str, set[str]] = {}
                keys: set[tuple[str, str]] = set()
                for id, key, document in self._recorded_nodes():
                    keys.add((id, key))
                    if document:
                        documents.setdefault(key, set()).add(document)
                self._nodes = documents, keys
            return self._nodes

    def _recorded_nodes(self) -> Iterator[tuple[str, str, str]]:
        """Yield each recorded node with its content key and its snapshot's document.

        Who needs a record in full says what is wrong with it.
        """
        for name in self.names():
            with contextlib.suppress(
                OSError, ValueError, RecursionError, AttributeError, TypeError
            ):
                data = json.loads(read_regular(self._environments / f"{name}.json"))
                for id, node in data["nodes"].items() if "nodes" in data else ():
                    yield id, str(node.get("content_key")), str(node.get("stored") or "")
            with contextlib.suppress(StateError):
                for id, held in self._journal_entries(name):
                    if isinstance(held, NodeRecord):
                        yield id, held.content_key, held.stored

    def save(self, record: EnvironmentRecord) -> None:
        """Replace an environment's record and forget its journal."""
        write_document(self._environments / f"{record.name}.json", _VERSION, fields_of(record))
        with contextlib.suppress(FileNotFoundError):
            self._journal_path(record.name).unlink()

    def forget(self, name: str) -> None:
        """Remove all that is remembered of an environment; its record goes last."""
        for path in (
            self.document_path("plans", name),
            self.document_path("manifests", name),
            self._journal_path(name),
            self._environments / f"{name}.json",
        ):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def document_path(self, kind: str, name: str) -> Path:
        """Return where a document beside the record stands: ``plans``, ``manifests``, ..."""
        return self._folder / kind / f"{name}.json"

    def read(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Read a document beside the record; None where there is none.

        Raises:
            StateError: it is damaged or newer than this version.
        """
        return read_document(self.document_path(kind, name), _VERSION)

    def write(self, kind: str, name: str, data: Mapping[str, object]) -> None:
        """Write a document beside the record, atomically."""
        write_document(self.document_path(kind, name), _VERSION, data)

    def write_text(self, kind: str, name: str, text: str) -> None:
        """Write a document that is an object in JSON already, atomically."""
        versioned = f'{{"schema_version":{_VERSION},{text.removeprefix("{")}\n'
        write_atomically(self.document_path(kind, name), versioned)

    def read_text(self, kind: str, name: str) -> str | None:
        """Return the JSON of a document beside the record; None where there is none.

        Raises:
            StateError: it can't be read.
        """
        path = self.document_path(kind, name)
        try:
            return read_regular(path).decode("utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise state_error(error, path) from error

    def rename(self, kind: str, old: str, new: str) -> None:
        """Rename a document, atomically."""
        path = self.document_path(kind, old)
        try:
            path.rename(self.document_path(kind, new))
            sync_folder(path.parent)
        except OSError as error:
            raise state_error(error, path) from error

    def remove(self, kind: str, name: str) -> None:
        """Remove a document beside the record, if it is there."""
        path = self.document_path(kind, name)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def unfinished(self, environment: str) -> Mapping[str, Any] | None:
        """Return what is written down of a promotion into an environment that did not end."""
        return self.read("promotions", f"{environment}.current")

    def all(self, kind: str) -> tuple[str, ...]:
        """List the names that have a document of a kind."""
        return tuple(sorted(p.stem for p in (self._folder / kind).glob("*.json")))

    def journal(self, name: str) -> Journal:
        """Open the journal of a command on an environment."""
        return Journal(self._journal_path(name))

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep every other command away from an environment."""
        with exclusive_lock(self._environments / f"{name}.lock", f"environment {name!r}"):
            yield

    def _journal_path(self, name: str) -> Path:
        return self._environments / f"{name}.journal"

    def _journal_entries(self, name: str) -> Iterator[tuple[str, NodeRecord | TargetRecord]]:
        path = self._journal_path(name)
        try:
            lines = read_regular(path).splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise state_error(error, path) from error
        unreadable: list[int] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry = entry_of(line)
            if entry is not None:
                yield entry
            else:
                unreadable.append(number)
        if unreadable and path not in self._warned:
            self._warned.add(path)
            log.warning(
                "warning: %s: line %s cannot be read, as a command that died in the middle of "
                "writing leaves it; what it said is done again",
                path,
                first_few(unreadable),
            )
