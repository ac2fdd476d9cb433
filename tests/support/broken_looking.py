"""Backends whose connections, names or answers are wrong."""

from __future__ import annotations

import contextlib
import itertools
import logging
from pathlib import Path

import attrs

from seeknal_core.contract.errors import BackendError, OptionError, Problem
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
    BackendOptions,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    QualifiedName,
    Snapshot,
    Target,
    TargetSpec,
    TargetState,
    WriteResult,
)
from seeknal_core.testing.memory import MemoryBackend
from seeknal_core.testing.memory_connection import MemoryConnection
from seeknal_core.testing.memory_store import WrongPassword, load
from support.broken import breaks

_numbers = itertools.count()


def connection_of(found: Connection, cls: type[MemoryConnection]) -> MemoryConnection:
    assert isinstance(found, MemoryConnection)
    return cls(name=found.name, type=found.type, path=found.path, password=found.password)


class Loose(MemoryConnection):
    __setattr__ = object.__setattr__


class Numbered(MemoryConnection):
    def bindings(self) -> dict[str, str]:
        return {"path": self.path, "number": str(next(_numbers))}


class Talkative(MemoryConnection):
    def __repr__(self) -> str:
        return f"{self.path} {self.password and self.password.reveal()}"


class Binding(MemoryConnection):
    def bindings(self) -> dict[str, str]:
        return {"path": self.path, "key": self.password.reveal() if self.password else ""}


class _Resolves(MemoryBackend):
    cls = MemoryConnection

    @hookimpl
    def resolve_profile(self, context: ExecutionContext, connection: ConnectionSpec) -> Connection:
        return connection_of(super().resolve_profile(context, connection), self.cls)


@breaks("a_connection_is_frozen_and_typed")
class GivesALooseConnection(_Resolves):
    cls = Loose


@breaks("equal_mappings_give_equal_connections")
class BindsADifferentPlaceEachTime(_Resolves):
    cls = Numbered


@breaks("no_secret_is_shown")
class ShowsThePassword(_Resolves):
    cls = Talkative


@breaks("no_secret_is_shown")
class BindsThePassword(_Resolves):
    cls = Binding


@breaks("resolving_and_naming_touch_nothing")
class ReadsAFileToResolve(MemoryBackend):
    @hookimpl
    def resolve_profile(self, context: ExecutionContext, connection: ConnectionSpec) -> Connection:
        Path("/dev/null").read_bytes()
        return super().resolve_profile(context, connection)


@breaks("a_mistake_is_named_by_its_path")
class SaysThatSomethingIsWrong(MemoryBackend):
    @hookimpl
    def resolve_profile(self, context: ExecutionContext, connection: ConnectionSpec) -> Connection:
        try:
            return super().resolve_profile(context, connection)
        except OptionError:
            raise OptionError([Problem("something is wrong")]) from None


@attrs.frozen(kw_only=True)
class HalfTheOptions:
    path: str


@breaks("the_described_options_are_those_that_are_taken")
class DescribesHalfItsOptions(MemoryBackend):
    @hookimpl
    def describe_options(self) -> BackendOptions:
        return BackendOptions(connection=HalfTheOptions)


@breaks("checking_a_connection_says_something_and_changes_nothing")
class WritesToCheck(MemoryBackend):
    @hookimpl
    def check_connection(self, context: ExecutionContext) -> str:
        with self.changing(context) as store:
            store.namespaces[("check",)] = None
        return super().check_connection(context)


def renamed(name: QualifiedName, *parts: str) -> QualifiedName:
    return attrs.evolve(name, parts=parts, quoted=".".join(parts))


@breaks("the_prefix_stands_before_one_namespace", "environments_write_tables_of_their_own")
class ForgetsThePrefix(MemoryBackend):
    @hookimpl
    def namespace_for(self, context: ExecutionContext, target: TargetSpec) -> QualifiedName:
        bare = attrs.evolve(context, environment=attrs.evolve(context.environment, prefix=""))
        return super().namespace_for(bare, target)


@breaks("the_prefix_stands_before_one_namespace")
class PrefixesTheTable(MemoryBackend):
    @hookimpl
    def namespace_for(self, context: ExecutionContext, target: TargetSpec) -> QualifiedName:
        bare = attrs.evolve(context, environment=attrs.evolve(context.environment, prefix=""))
        *outer, table = super().namespace_for(bare, target).parts
        name = super().namespace_for(context, target)
        return renamed(name, *outer, context.environment.prefix + table)


@breaks("a_name_is_always_the_same", "the_prefix_stands_before_one_namespace")
class NamesByOrderOfAsking(MemoryBackend):
    asked = itertools.count()

    @hookimpl
    def namespace_for(self, context: ExecutionContext, target: TargetSpec) -> QualifiedName:
        name = super().namespace_for(context, target)
        return renamed(name, *name.parts[:-1], f"{name.parts[-1]}{next(self.asked)}")


@breaks("different_targets_have_different_names")
class FlattensNames(MemoryBackend):
    @hookimpl
    def namespace_for(self, context: ExecutionContext, target: TargetSpec) -> QualifiedName:
        name = super().namespace_for(context, target)
        outer, table = name.parts[0], "_".join(name.parts[1:])
        if outer.removeprefix("dev_").startswith("a"):
            # (a_b, c) and (a, b_c) become one.
            prefix = context.environment.prefix
            return renamed(
                name, f"{prefix}a", f"{outer.removeprefix(prefix + 'a')}_{table}".strip("_")
            )
        return name


class _Moves(MemoryBackend):
    """Writes under another name than it was told."""

    def moved(self, part: str) -> str:
        raise NotImplementedError

    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        name = renamed(target.name, *(self.moved(part) for part in target.name.parts))
        return super().materialize(context, attrs.evolve(target, name=name), snapshot)


@breaks("long_names_get_tables_of_their_own")
class CutsLongNames(_Moves):
    def moved(self, part: str) -> str:
        return part[:50]


@breaks("an_odd_name_is_written_or_refused")
class DropsBlanks(_Moves):
    def moved(self, part: str) -> str:
        return part.replace(" ", "")


@breaks("environments_write_tables_of_their_own")
class WritesToProduction(_Moves):
    def moved(self, part: str) -> str:
        return part.removeprefix("dev_")


@breaks("rows_are_counted_in_the_store")
class RemembersWhatItWrote(MemoryBackend):
    rows_after = 0

    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        result = super().materialize(context, target, snapshot)
        self.rows_after = result.rows_after
        return result

    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        found = super().count_rows(context, target)
        return min(found, self.rows_after)


@breaks("rows_are_counted_in_the_store")
class CountsInWords(MemoryBackend):
    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        return str(super().count_rows(context, target))  # type: ignore[return-value]


@breaks("a_missing_table_cannot_be_counted")
class CountsNothingAsNone(MemoryBackend):
    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        try:
            return super().count_rows(context, target)
        except BackendError:
            return 0


class _Inspects(MemoryBackend):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        raise NotImplementedError

    @hookimpl
    def inspect_target(self, context: ExecutionContext, target: Target) -> TargetState:
        return self.change(context, target, super().inspect_target(context, target))


@breaks("several_targets_are_told_as_each_is")
class TellsTargetsInItsOwnOrder(MemoryBackend):
    @hookimpl
    def inspect_targets(
        self, context: ExecutionContext, targets: tuple[Target, ...], versions: bool
    ) -> tuple[TargetState, ...]:
        in_order = sorted(targets, key=lambda target: target.key)
        return tuple(self.inspect_target(context, target) for target in in_order)


@breaks("without_versions_the_rest_is_told_all_the_same")
class TellsNoOwnerWithoutAVersion(MemoryBackend):
    @hookimpl
    def inspect_targets(
        self, context: ExecutionContext, targets: tuple[Target, ...], versions: bool
    ) -> tuple[TargetState, ...]:
        found = super().inspect_targets(context, targets, versions)
        return found if versions else tuple(attrs.evolve(state, owner=None) for state in found)


@breaks("an_absent_table_is_told_as_absent")
class TellsAVersionOfNothing(_Inspects):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        return attrs.evolve(state, version=state.version or "none")


@breaks("an_identity_is_one_tables")
class IdentifiesByTheAsker(_Inspects):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        return attrs.evolve(state, identity=f"{context.project} {state.identity}")


@breaks("an_identity_is_one_tables")
class IdentifiesByTheTablesNameAlone(_Inspects):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        return attrs.evolve(state, identity=target.name.parts[-1])


@breaks("a_version_changes_with_every_write")
class VersionsByWhoWroteLast(_Inspects):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        return attrs.evolve(state, version=state.owner.content_key if state.owner else None)


@breaks("the_last_writer_is_known")
class ForgetsTheRun(_Inspects):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        owner = attrs.evolve(state.owner, run_id="") if state.owner else None
        return attrs.evolve(state, owner=owner)


@breaks("the_columns_are_those_of_the_table")
class TellsColumnsBackwards(_Inspects):
    def change(self, context: ExecutionContext, target: Target, state: TargetState) -> TargetState:
        return attrs.evolve(state, columns=state.columns[::-1])


def password(context: ExecutionContext) -> str:
    assert isinstance(context.connection, MemoryConnection)
    assert context.connection.password is not None
    return context.connection.password.reveal()


@breaks("no_secret_is_in_an_error_or_a_log", "wrong_credentials_are_told")
class TellsThePasswordInAnError(MemoryBackend):
    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        try:
            return super().count_rows(context, target)
        except BackendError as error:
            raise BackendError(f"{error} (I said {password(context)})", error.hint) from None


@breaks("no_secret_is_in_an_error_or_a_log")
class LogsThePassword(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        logging.getLogger(__name__).debug("opening with %s", password(context))
        return super().materialize(context, target, snapshot)


@breaks("a_store_that_does_not_answer_is_told")
class LetsThroughWhatPythonSays(MemoryBackend):
    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        assert isinstance(context.connection, MemoryConnection)
        with contextlib.suppress(WrongPassword):
            load(Path(context.connection.path), password(context))
        return super().count_rows(context, target)


@breaks("wrong_credentials_are_told")
class RepeatsTheWrongPassword(MemoryBackend):
    @hookimpl
    def check_connection(self, context: ExecutionContext) -> str:
        try:
            return super().check_connection(context)
        except BackendError as error:
            raise BackendError(f"{error}: {password(context)}", error.hint) from None
