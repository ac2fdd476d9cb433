"""Fingerprints: of a node's definition, of its targets, of its audits.

A definition says what rows a node stands for, whoever runs it wherever
(``docs/adr/0003-content-keys.md``). Connections are no part of it. Targets and audits
have fingerprints of their own, so that changing one computes nothing again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from seeknal_core.contract.types import Mode, TargetSpec
from seeknal_core.contract.types.digests import Definition, Fingerprint
from seeknal_core.graph import templates
from seeknal_core.graph.texts import texts
from seeknal_core.graph.tokens import TOKENIZER_VERSION
from seeknal_core.hints import canonical_type
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode

#: Raised when a definition is made of other things than before.
DEFINITION_VERSION = 1

_CONNECTION_WORDS = """
connection host hostaddr port user username password passfile database dbname db dsn url uri
catalog catalog_uri catalog_name warehouse token bearer_token credential credentials
access_key access_key_id secret_key secret_access_key session_token region endpoint
account account_key role sslmode sslcert sslkey sslrootcert sslpassword ssl verify_tls
connect_timeout timeout application_name embedded pool_size oauth2_server_uri scope
"""

#: Keys of a source's params that say where and as whom, never what. A source may hold
#: connection options of any backend inline, and the graph knows no backend: these are
#: the generic words. An option that is missing here makes a configuration look like a
#: change (a needless rebuild), never the reverse; so no word stands here that could
#: choose other rows in the same store (a table, a schema, a query, a branch).
CONNECTION_KEYS = frozenset(_CONNECTION_WORDS.split())
#: Dotted keys of which the first part says the same: ``s3.endpoint``.
_CONNECTION_PREFIXES = ("s3.", "gcs.", "adls.", "hdfs.", "rest.", "oauth2", "header.", "client.")


def is_connection_key(key: str) -> bool:
    """Whether a key of ``params`` belongs to the connection."""
    folded = key.lower().replace("-", "_")
    return folded in CONNECTION_KEYS or folded.startswith(_CONNECTION_PREFIXES)


def definition(
    node: AnyNode,
    inputs: Sequence[tuple[str, str]],
    vars: Mapping[str, object],
    *,
    positional: bool = False,
) -> Definition:
    """Return the definition of a node: SHA-256, 64 hexadecimal digits.

    Args:
        inputs: id and definition of each input, in the node's order.
        positional: whether the SQL names inputs by position. Then their order
            counts and their names don't; otherwise the reverse.
    """
    if positional:
        above: list[object] = [found for _, found in inputs]
    else:
        above = [list(pair) for pair in sorted(inputs)]
    columns = [[column.name, column.dtype] for column in node.columns]
    covers = [] if node.covers is None else [templates.fill_vars_in(node.covers, vars)]
    return Definition(
        _digest(
            DEFINITION_VERSION,
            TOKENIZER_VERSION,
            node.kind,
            _text(node, vars),
            columns,
            above,
            *covers,
        )
    )


def _text(node: AnyNode, vars: Mapping[str, object]) -> object:
    match node:
        case SqlNode():
            filled = templates.fill_vars(node.sql, vars, sql=True)
            return texts.definition(filled)
        case PythonNode():
            found = {"code": node.code_digest, "function": node.qualname}
            return {**found, "name": node.name} if node.has_namesake else found
        case SourceNode():
            params = {
                key: templates.fill_vars_in(value, vars)
                for key, value in node.params.items()
                if not is_connection_key(key)
            }
            table = None if node.table is None else templates.fill_vars(node.table, vars)
            return {"type": canonical_type(node.type), "table": table, "params": params}


def target_fingerprint(spec: TargetSpec, mode: Mode) -> Fingerprint:
    """Return the fingerprint of a target: SHA-256, 64 hexadecimal digits.

    It covers the type, the table as written, keys, time column, lookback,
    partitioning, schema policy and the backend's own options; not the connection,
    which is compared by physical identity.

    Args:
        mode: the mode that holds after the profile's default was applied.
    """
    return Fingerprint(
        _digest(
            canonical_type(spec.type),
            spec.table,
            mode.value,
            list(spec.unique_keys),
            spec.time_column,
            spec.lookback.total_seconds(),
            list(spec.partition_by),
            spec.on_schema_change.value,
            dict(spec.options),
        )
    )


def audits_fingerprint(node: AnyNode) -> Fingerprint:
    """Return the fingerprint of a node's audits and contract: SHA-256, 64 hexadecimal digits."""
    return Fingerprint(
        _digest(
            node.contract,
            [
                [
                    audit.type,
                    audit.severity.value,
                    list(audit.columns),
                    list(audit.values),
                    audit.min,
                    audit.max,
                    audit.sql,
                    audit.column,
                    audit.to,
                    audit.field,
                ]
                for audit in node.audits
            ],
        )
    )


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: object) -> object:
    """Write what YAML and attrs hold besides JSON's own: dates, tuples, mappings."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return [type(value).__name__, str(value)]
