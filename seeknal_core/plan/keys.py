"""Content keys: the name of a node's output, known before it is computed.

The key of a transform covers its definition, its expanded text and the keys of
its inputs; the key of a source its definition and what was read
(``docs/adr/0003-content-keys.md``). Where things are written, and by whom, is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from seeknal_core.contract.types import Source
from seeknal_core.contract.types.digests import BindingDigest, ContentKey, Fingerprint
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode
from seeknal_core.state.digests import digest
from seeknal_core.state.documents import write_atomically
from seeknal_core.workspace.bindings import refuse_address
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from email.message import Message

    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.files.opened import ResolvedFiles

#: The same for rows that come from files: raised when a reader gives other rows.
_READERS = 2


def volatile_part(session: Session, node_id: str) -> str:
    """Return what makes a volatile node's key its run's own, else an empty text."""
    return session.context.run_id if session.graph.volatile.get(node_id) else ""


def sql_key(session: Session, node: SqlNode, tokens: str, inputs: Sequence[str]) -> ContentKey:
    """Return the key of a SQL transform, given its expanded tokens and its inputs' keys."""
    return ContentKey(
        digest(
            "sql",
            session.graph.definitions[node.id],
            tokens,
            list(inputs),
            volatile_part(session, node.id),
            *_covers(session, node),
        )
    )


def _covers(session: Session, node: SqlNode | PythonNode) -> list[object]:
    """Return what a node covers now: rows that are complete for another time are others."""
    from seeknal_core.graph.templates import expand_value

    if node.covers is None:
        return []
    return [expand_value(node.covers, session.variables, location=node.location)]


def python_key(session: Session, node: PythonNode, inputs: Sequence[str]) -> ContentKey:
    """Return the key of a Python transform.

    What its code can ask of the context enters as far as the code names it.
    """
    variables = session.variables
    asked = {
        "env_name": variables.env_name,
        "run_id": variables.run_id,
        "today": str(variables.today),
        "var": dict(variables.vars),
    }
    return ContentKey(
        digest(
            "python",
            session.graph.definitions[node.id],
            {name: asked[name] for name in node.context_names if name in asked},
            list(inputs),
            volatile_part(session, node.id),
            *_covers(session, node),
        )
    )


def asked_of(source: Source) -> Mapping[str, object]:
    """Return what is asked of a store: expanded, with ``source_defaults`` merged in."""
    own = source.options
    return {
        "query": source.query,
        "columns": source.columns,
        "options": _given(own) if attrs.has(type(own)) else own,
    }


def _given(options: Any) -> dict[str, object]:
    """Return options by name, without those that came later and are not used."""
    values: dict[str, object] = attrs.asdict(options)
    fields = {field.name: field for field in attrs.fields(type(options))}
    return {
        name: value
        for name, value in values.items()
        if not (fields[name].metadata.get("later") and value == fields[name].default)
    }


def stream_key(session: Session, node_id: str, read: Mapping[str, object]) -> ContentKey:
    """Return the key of rows that came as a stream.

    Args:
        read: ``identity``, one of ``version`` and ``digest``, and what was asked
            of a store (`asked_of`).
    """
    return ContentKey(
        digest(
            "stream",
            session.graph.definitions[node_id],
            dict(read),
            volatile_part(session, node_id),
        )
    )


def transform_key(session: Session, node: AnyNode, inputs: Sequence[str]) -> str:
    """Return the key of a transform over the keys of its inputs, in their order."""
    if isinstance(node, PythonNode):
        return python_key(session, node, inputs)
    from seeknal_core.graph import render

    assert isinstance(node, SqlNode)
    rendered = render(node, session.graph.inputs[node.id], session.variables)
    return sql_key(session, node, rendered.tokens, inputs)


def version_read(identity: str, version: str, source: Source) -> dict[str, object]:
    """Return what was read of a source that has a version, for `stream_key`."""
    return {"identity": identity, "version": version, "asked": asked_of(source)}


def is_remote(node: SourceNode) -> bool:
    """Return whether a file source's files must be fetched to be looked at."""
    written = node.table or str(node.params.get("path", ""))
    return "://" in written and not written.startswith("file://")


def local_binding(session: Session, node: SourceNode | PythonNode) -> BindingDigest:
    """Digest where a source that no backend reads leads in this environment.

    Of files, their expanded paths; of a Python source, the environment's name if
    its code asks for it: what else it reads is known to nobody but itself.
    """
    if isinstance(node, PythonNode):
        asks = "env_name" in node.context_names
        return BindingDigest(digest("python", session.environment.name if asks else ""))
    expanded = expanded_source(session, node)
    return BindingDigest(digest("files", expanded.table, dict(expanded.params)))


def expanded_source(session: Session, node: SourceNode) -> SourceNode:
    """Return a file source with its templates expanded and ``source_defaults`` merged in.

    Raises:
        ConfigError: an untrusted project names an address that the machine doesn't allow.
    """
    from seeknal_core.graph.templates import expand, expand_value

    table = node.table
    if table is not None:
        table = expand(table, session.variables, location=node.location)
    params = expand_value(dict(node.params), session.variables, location=node.location)
    assert isinstance(params, dict)
    refuse_address(session, node, str(table if table is not None else params.get("path", "")))
    defaults = session.profile.source_defaults.get(node.type, {})
    return attrs.evolve(node, table=table, params={**defaults, **params})


@attrs.frozen(kw_only=True)
class FileRead:
    """A file source that is about to be read: its files and the key they give."""

    source: SourceNode
    files: ResolvedFiles
    content_key: ContentKey


def file_read(
    session: Session,
    node: SourceNode,
    digests: FileDigests,
    scratch: Path,
    stored: Callable[[str], bool] | None = None,
) -> FileRead:
    """Resolve and digest a file source's files.

    Args:
        stored: tells whether the rows of a content key are stored. Where they are, and a
            server says that its file is still the same, nothing is downloaded, and there
            are no files in the result.

    Raises:
        EngineError: no file matches, or one cannot be read.
    """
    from seeknal_core.engine.files.bounds import check_sha256
    from seeknal_core.engine.files.find import resolve_files

    source = expanded_source(session, node)
    if stored is not None:
        known = _unchanged(session, source, stored)
        if known is not None:
            return known
    answers: list[tuple[str, Message]] = []
    root = Path(session.settings.root)
    files = resolve_files(
        source, root, scratch, lambda *answer: answers.append(answer), session.places
    )
    contents = [
        (label, digests.digest(path, files.places))
        for label, path in zip(files.labels, files.files, strict=True)
    ]
    check_sha256(source, files.labels, [content for _, content in contents])
    for url, headers in answers:
        from seeknal_core.engine.files.https_seen import of_answer, remember

        size = files.files[0].stat().st_size
        seen = of_answer(url, headers, digest=contents[0][1], size=size)
        remember(_seen_files(session), _written(source), seen, write_atomically)
    return FileRead(source=source, files=files, content_key=_key(session, source, contents))


def _key(session: Session, source: SourceNode, contents: Sequence[tuple[str, str]]) -> ContentKey:
    definition = session.graph.definitions[source.id]
    return ContentKey(digest("files", _READERS, definition, dict(source.params), list(contents)))


def _written(source: SourceNode) -> str:
    return source.table or str(source.params.get("path", ""))


def _seen_files(session: Session) -> Path:
    return session.layout.https_seen


def _unchanged(
    session: Session, source: SourceNode, stored: Callable[[str], bool]
) -> FileRead | None:
    """Return what was read of a file behind ``https://`` where its server says it is the same."""
    url = _written(source)
    if not url.startswith(("https://", "http://")):
        return None
    from seeknal_core.engine.files.bounds import check_sha256
    from seeknal_core.engine.files.https import is_unchanged, shown_url
    from seeknal_core.engine.files.https_seen import recall
    from seeknal_core.engine.files.opened import ResolvedFiles

    seen = recall(_seen_files(session), url)
    if seen is None or seen.size > (source.max_bytes or seen.size):
        return None
    label = shown_url(url)
    key = _key(session, source, [(label, seen.digest)])
    if not stored(key) or not is_unchanged(source.id, url, seen):
        return None
    check_sha256(source, [label], [seen.digest])
    return FileRead(source=source, files=ResolvedFiles(files=(), labels=()), content_key=key)


def audits_key(node: AnyNode, content_key: str, related: Mapping[str, str]) -> Fingerprint:
    """Fingerprint the audits of a node upon just these rows.

    Args:
        related: the content keys of what its audits look at besides, by node.
    """
    from seeknal_core.graph import audits_fingerprint
    from seeknal_core.state.digests import digest

    return Fingerprint(digest("audits", audits_fingerprint(node), content_key, dict(related)))
