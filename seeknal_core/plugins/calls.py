"""Call hooks and let nothing through that a plugin may not do.

pluggy checks signatures, not results; and a plugin's own exception says nothing
of whose it is. Both are fixed here, for the call and for the stream of rows
that outlives it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import attrs

from seeknal_core.contract.errors import HookContractError, PluginError, SeeknalError, exhausted
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import ExecutionContext, Scan, SourceStream, Target, redact
from seeknal_core.plugins.host import PluginHost, ended, is_users_stop
from seeknal_core.plugins.results import wrong

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_COMMAND = re.compile(r"\bseeknal (?:run|check)\b(?! --(?:env|profile))")

_REFRESH = "seeknal run --full-refresh"


def in_environment(hint: str, context: ExecutionContext, node: str = "") -> str:
    """Make the commands in a hint those of this environment and profile.

    A backend writes ``seeknal check --connections``, and whoever works in ``dev``
    must not be sent to production with it. Nor must a full refresh of one table become one of
    all, or go past a promotion.

    Args:
        node: whose target the hint is about, empty where that is not known.
    """
    if context.promoting:
        hint = hint.replace(_REFRESH, "the promotion's --full-refresh")
    elif node:
        hint = hint.replace(_REFRESH, f"{_REFRESH} --select {shlex.quote(node)}")
    options: list[str] = []
    if not context.environment.is_production:
        options += ["--env", context.environment.name]
    if context.profile.given and context.profile.path:
        options += ["--profile", context.profile.path]
    return _COMMAND.sub(lambda found: shlex.join([*found[0].split(), *options]), hint)


def _node_of(error: SeeknalError, arguments: Mapping[str, object]) -> str:
    """Return the node whose target an error is about, as far as it can be told."""
    one, several = arguments.get("target"), arguments.get("targets", ())
    if isinstance(one, Target):
        return one.node
    about = getattr(error, "target", "")
    found = [each for each in several if isinstance(each, Target)]  # type: ignore[attr-defined]
    named = [each for each in found if len(found) == 1 or str(each.name) == about]
    return named[0].node if len(named) == 1 else ""


def _named(result: object) -> str:
    several = isinstance(result, tuple) and len(result) > 0
    return (result[0] if several else result).__class__.__name__  # type: ignore[index]


class HookCalls:
    """The guarded way to the hooks of one command's plugins."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host

    def call(self, type: str, hook: Hook, result_type: type[T], **arguments: object) -> T:
        """Call a hook of the backend of `type` and check the type of its result.

        Raises:
            SeeknalError: what the backend raised on purpose.
            PluginError: anything else it raised, with its name and version.
            HookContractError: a result of another type.
        """
        caller = self._host.caller(type, hook)
        context = arguments.get("context")
        known = context if isinstance(context, ExecutionContext) else None
        with self._translated(type, hook, known, arguments):
            result = caller(**arguments)
        wrong_bool = result_type is int and isinstance(result, bool)
        if not isinstance(result, result_type) or wrong_bool:
            raise self.broken(
                type, hook, f"returned {result.__class__.__name__}, not {result_type.__name__}"
            )
        found = wrong(result)
        if found:
            raise self.broken(type, hook, f"returned a {_named(result)}: {found}")
        return result

    @contextmanager
    def _translated(
        self,
        type: str,
        hook: Hook,
        context: ExecutionContext | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> Iterator[None]:
        """Name plugin and hook in whatever a plugin raises that is no error of ours."""
        try:
            yield
        except SeeknalError as error:
            if context is not None:
                node = _node_of(error, arguments or {})
                error.hint = in_environment(error.hint, context, node)
            raise
        # Also what means to end the process: a command that stops in silence did nothing.
        except BaseException as error:
            if is_users_stop(error):
                raise
            if spent := exhausted(error):
                raise spent from error
            info = self._host.culprit(type, error)
            text = redact(ended(error))
            raise PluginError(
                f"{info} failed in {hook}: {text}",
                "run again with --debug for the traceback, and report it to the plugin's authors",
            ) from error

    def checked_stream(
        self, type: str, stream: SourceStream, context: ExecutionContext
    ) -> SourceStream:
        """Hold a stream to the hook's contract, which outlives the hook's call."""

        def held(opener: Callable[[], object]) -> pa.RecordBatchReader:
            import pyarrow as pa

            with self._translated(type, Hook.READ_SOURCE, context):
                reader = opener()
            if not isinstance(reader, pa.RecordBatchReader):
                what = f"opened a {reader.__class__.__name__}, not a RecordBatchReader"
                raise self.broken(type, Hook.READ_SOURCE, what)
            return pa.RecordBatchReader.from_batches(reader.schema, batches(reader))

        def scanned(scan: Scan) -> Scan:
            return attrs.evolve(
                scan, open=lambda columns, where: held(lambda: scan.open(columns, where))
            )

        def batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
            while True:
                with self._translated(type, Hook.READ_SOURCE, context):
                    try:
                        batch = reader.read_next_batch()
                    except StopIteration:
                        return
                yield batch

        def close() -> None:
            with self._translated(type, Hook.READ_SOURCE, context):
                stream.close()

        return SourceStream(
            identity=stream.identity,
            version=stream.version,
            open=lambda: held(stream.open),
            sees=stream.sees,
            close=close,
            scan=scanned(stream.scan) if stream.scan is not None else None,
        )

    def broken(self, type: str, hook: Hook, what: str) -> HookContractError:
        """Return the error of a plugin that breaks the contract of a hook."""
        info = self._host.loaded(type).info
        around = ", ".join(map(str, self._host.around(hook)))
        return HookContractError(
            f"{info}: {hook} {what}" + (f" (or {around}, which wraps it, did)" if around else ""),
            f"report it to the authors of {info.distribution}; the contract: python -m pydoc seeknal_core.contract.hooks",
        )
