"""What pytest loads: the option, the optional fixtures, what applies, and the report."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seeknal_core.contract.errors import PluginError

if TYPE_CHECKING:
    from seeknal_core.testing.bench import Bench
    from seeknal_core.testing.victims import Victims

_SECRET = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_NEEDS = "seeknal_needs"
#: The property by which a test tells that the backend refused what was asked, and why.
REFUSED = "seeknal refused"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seeknal-report``."""
    parser.getgroup("seeknal", "conformance of Seeknal backends").addoption(
        "--seeknal-report",
        metavar="FILE",
        help="write the result of the conformance suite as JSON, for each backend and test",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make assertions of the suite tell what they compared."""
    config.pluginmanager.register(Conformance(config), "seeknal-conformance")
    config.addinivalue_line(
        "markers", f"{_NEEDS}(*hooks, fixture=None): of a backend; used by seeknal_core.testing"
    )
    pytest.register_assert_rewrite("seeknal_core.testing.contracts")


@pytest.fixture
def unreachable() -> Mapping[str, object]:
    """A connection whose store does not answer; give your own for the tests that need one."""
    raise NotImplementedError


@pytest.fixture
def rejected() -> Mapping[str, object]:
    """A connection whose credentials the store refuses; give your own."""
    raise NotImplementedError


@pytest.fixture
def query() -> str:
    """A query that reads all of ``{table}``; give your own."""
    raise NotImplementedError


@pytest.fixture
def writing_query() -> str:
    """A query that would change ``{table}``; give your own."""
    raise NotImplementedError


@pytest.fixture
def secrets(connection: Mapping[str, object]) -> tuple[str, ...]:
    """The strings of ``connection`` that nobody may see, by default by their keys."""
    return secrets_of(connection)


def secrets_of(mapping: Mapping[str, object]) -> tuple[str, ...]:
    """Return the strings of a connection whose keys say that they are secret."""
    return tuple(_secrets(mapping))


def _secrets(mapping: Mapping[str, object]) -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and _SECRET.search(key):
            yield value


@pytest.fixture(scope="session")
def seeknal_victims_of() -> Iterator[dict[str, Victims]]:
    """The processes that fork victims, by backend; ended with the session."""
    found: dict[str, Victims] = {}
    yield found
    for victims in found.values():
        with victims:
            pass


@pytest.fixture
def seeknal_victims(seeknal_victims_of: dict[str, Victims], bench: Bench) -> Victims:
    """A source of processes that die in the middle of a hook of the backend under test."""
    from seeknal_core.testing.victims import Victims

    backend = bench.backend
    key = f"{backend.type} {backend.plugin}"
    if key not in seeknal_victims_of:
        seeknal_victims_of[key] = Victims(bench)
    return seeknal_victims_of[key]


class Conformance:
    """One session's part of the suite: which tests apply, and how they ended."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._entries: dict[tuple[str, str], dict[str, Any]] = {}

    def _note(self, entry: Mapping[str, Any], outcome: str, detail: str) -> None:
        # A worker of pytest-xdist collects all tests, and each is left out in every worker.
        self._entries[entry["suite"], entry["test"]] = {
            **entry,
            "outcome": outcome,
            "detail": detail,
        }

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out the tests of hooks that a backend lacks, and of fixtures not given."""
        left_out: set[pytest.Item] = set()
        known: dict[object, dict[str, Any]] = {}
        for item in items:
            contract = _contract(item)
            try:
                about = _about(item, known) if contract is not None else None
            except pytest.UsageError as error:
                # What a worker of pytest-xdist dies of is lost, but for this.
                item.session.shouldfail = str(error)
                raise
            if about is None:
                continue
            suite = item.nodeid.rpartition("::")[0]
            entry = {**about, "suite": suite, "contract": contract.contract, "test": item.name}
            item.user_properties.append(("seeknal", entry))
            lacking = _lacking(item, contract, frozenset(about["hooks"]))
            if lacking:
                left_out.add(item)
                self._note(entry, "not applicable", f"needs {lacking}")
        if left_out:
            config.hook.pytest_deselected(items=list(left_out))
            items[:] = [item for item in items if item not in left_out]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        properties = dict(report.user_properties)
        entry = properties.get("seeknal")
        if not isinstance(entry, dict) or (report.when != "call" and not report.failed):
            return
        refused = properties.get(REFUSED)
        if report.failed:
            self._note(entry, "failed", _first_line(report))
        else:
            self._note(entry, "refused" if refused else report.outcome, str(refused or ""))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker of pytest-xdist left out."""
        for entry in getattr(node, "workeroutput", {}).get("seeknal", []):
            self._entries.setdefault((entry["suite"], entry["test"]), entry)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report, or hand what is known to the process that does."""
        output = getattr(session.config, "workeroutput", None)
        path = session.config.getoption("--seeknal-report")
        if output is not None:
            output["seeknal"] = list(self._entries.values())
        elif path:
            from seeknal_core.testing import report

            report.write(Path(path), report.entries(self._entries.values()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Report which contracts applied to which backend."""
        if self._entries:
            from seeknal_core.testing import report

            terminalreporter.section("conformance of backends")
            for line in report.summary(report.entries(self._entries.values())):
                terminalreporter.write_line(line)


def _contract(item: pytest.Item) -> Any:
    """Return the class of the suite that defines a test, None for other tests."""
    cls = getattr(item, "cls", None)
    name = getattr(item, "originalname", "")
    if cls is None or not hasattr(cls, "seeknal_contract"):
        return None
    defining = next((one for one in cls.__mro__ if name in vars(one)), None)
    return defining if hasattr(defining, "contract") else None


def _about(item: pytest.Item, known: dict[object, dict[str, Any]]) -> dict[str, Any] | None:
    """Return type, distribution, version and hooks of the backend that a test is about."""
    found = _fixture(item, "backend")
    if found is None:
        return None  # pytest says that the fixture is missing, and for which test
    function = found.func
    if function not in known:
        parameters = [name for name in inspect.signature(function).parameters if name != "self"]
        if parameters:
            raise pytest.UsageError(
                f"the fixture 'backend' takes {', '.join(parameters)}; it must take nothing, "
                "for it is asked while tests are collected"
            )
        cls = getattr(item, "cls", None)
        with_self = "self" in inspect.signature(function).parameters
        backend = function(cls()) if with_self and cls else function()
        try:
            info, hooks = backend.info(), sorted(backend.hooks())
        except PluginError as error:
            raise pytest.UsageError(f"{error}\nNext: {error.hint}") from error
        except (ImportError, AttributeError) as error:
            raise pytest.UsageError(f"{backend.plugin} cannot be imported: {error}") from error
        known[function] = {
            "type": backend.type,
            "distribution": info.distribution,
            "version": info.version,
            "hooks": hooks,
        }
    return known[function]


def _fixture(item: pytest.Item, name: str) -> Any:
    # pytest has no public way to ask for a fixture before the first test is set up.
    info = getattr(item, "_fixtureinfo", None)
    found = info.name2fixturedefs.get(name) if info else None
    return found[-1] if found else None


def _lacking(item: pytest.Item, contract: Any, hooks: frozenset[str]) -> str:
    needs = sorted(contract.requires - hooks)
    for mark in item.iter_markers(_NEEDS):
        needs += [hook for hook in mark.args if hook not in hooks]
        name = mark.kwargs.get("fixture")
        if name and _fixture(item, name).func.__module__ == __name__:
            needs.append(f"the fixture {name}")
    return ", ".join(dict.fromkeys(needs))


def _first_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(getattr(crash, "message", report.longrepr)).splitlines()
    return lines[0][:300] if lines else ""
