"""Plugins are found, loaded by name, held to the contract, and named when they break it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seeknal_core.contract import hooks as hookspecs
from seeknal_core.contract.errors import (
    BackendBroken,
    BackendNotInstalled,
    HookContractError,
    PluginError,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.plugins.calls import HookCalls
from seeknal_core.plugins.host import BACKENDS, HOOKS, WRAPPERS, PluginHost
from support.distributions import install

FOUR = """
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import Connection, QualifiedName

@hookimpl
def resolve_profile(context, connection):
    return Connection(name=connection.name, type=connection.type)

@hookimpl
def namespace_for(context, target):
    return QualifiedName(parts=("WORD",), quoted="WORD")

@hookimpl
def materialize(context, target, snapshot):
    ...

@hookimpl
def count_rows(context, target):
    return 7
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder on ``sys.path`` to install distributions into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    from stevedore import ExtensionManager

    # stevedore remembers a group for the life of the process; each test has its own.
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield folder
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def backend(site: Path, name: str, source: str, distribution: str = "") -> None:
    install(
        site,
        distribution=distribution or f"seeknal-{name}",
        module=f"toy_{distribution.replace('-', '_') or name}",
        source=source.replace("WORD", name),
        entry_points={BACKENDS: {name: f"toy_{distribution.replace('-', '_') or name}"}},
        version="3.1",
    )


def test_listing_imports_nothing(site: Path) -> None:
    backend(site, "alpha", "raise RuntimeError('imported')")
    names = {info.name: str(info) for info in PluginHost().installed(BACKENDS)}
    assert names["alpha"] == "seeknal-alpha 3.1"
    assert "toy_alpha" not in sys.modules


def test_only_the_needed_backend_is_imported(site: Path) -> None:
    backend(site, "alpha", FOUR)
    backend(site, "broken", "import no_such_module")
    host = PluginHost()
    host.load_backends(["alpha"])
    assert host.loaded("alpha").hooks == {
        "resolve_profile",
        "namespace_for",
        "materialize",
        "count_rows",
    }
    assert "toy_broken" not in sys.modules


def test_a_plugin_that_cannot_be_imported_is_named_with_version_and_cause(site: Path) -> None:
    backend(site, "broken", "import no_such_module")
    with pytest.raises(BackendBroken, match=r"seeknal-broken 3\.1.*no_such_module"):
        PluginHost().load_backends(["broken"])


def test_a_known_type_without_plugin_names_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from seeknal_core.hints import hints

    # Hide whatever is installed: an empty path has no distributions.
    monkeypatch.setattr(sys, "path", [])
    type, distribution = next(iter(hints().distributions.items()))
    with pytest.raises(BackendNotInstalled) as raised:
        PluginHost().load_backends([type])
    assert raised.value.message == f"type '{type}' needs a backend: pip install {distribution}"


def test_an_unknown_type_gets_the_nearest_name(site: Path) -> None:
    backend(site, "clickhouse", FOUR)
    with pytest.raises(BackendNotInstalled, match="did you mean 'clickhouse'"):
        PluginHost().load_backends(["clickhuose"])


def test_two_distributions_that_claim_one_name_are_both_named(site: Path) -> None:
    backend(site, "alpha", FOUR, distribution="seeknal-alpha")
    backend(site, "alpha", FOUR, distribution="other-alpha")
    with pytest.raises(
        PluginError,
        match=r"other-alpha 3\.1 and seeknal-alpha 3\.1|seeknal-alpha 3\.1 and other-alpha 3\.1",
    ):
        PluginHost().load_backends(["alpha"])


def test_missing_required_hooks_are_listed(site: Path) -> None:
    backend(site, "alpha", FOUR.replace("@hookimpl\ndef count_rows", "def count_rows"))
    with pytest.raises(BackendBroken, match="lacks the required hook count_rows"):
        PluginHost().load_backends(["alpha"])


def test_half_a_group_of_hooks_is_refused(site: Path) -> None:
    backend(site, "alpha", FOUR + "\n@hookimpl\ndef list_owned(context): return ()\n")
    with pytest.raises(BackendBroken) as raised:
        PluginHost().load_backends(["alpha"])
    assert raised.value.message == (
        "backend 'alpha' (seeknal-alpha 3.1) implements list_owned without drop_target"
    )
    assert "seeknal-alpha" in raised.value.hint


def test_a_misspelled_hook_gets_the_right_name(site: Path) -> None:
    backend(site, "alpha", FOUR + "\n@hookimpl\ndef inspect_traget(context, target): ...\n")
    with pytest.raises(BackendBroken) as raised:
        PluginHost().load_backends(["alpha"])
    assert raised.value.message == (
        "plugin 'alpha' (seeknal-alpha 3.1) breaks the hook contract: "
        "there is no hook 'inspect_traget'; did you mean 'inspect_target'?"
    )


def test_an_unknown_argument_is_refused(site: Path) -> None:
    backend(site, "alpha", FOUR.replace("count_rows(context, target)", "count_rows(context, tgt)"))
    with pytest.raises(BackendBroken) as raised:
        PluginHost().load_backends(["alpha"])
    assert raised.value.message == (
        "plugin 'alpha' (seeknal-alpha 3.1) breaks the hook contract: "
        "hook count_rows has no argument 'tgt'; did you mean 'target'?"
    )
    assert (
        "seeknal-alpha" in raised.value.hint
        and "pydoc seeknal_core.contract.hooks" in raised.value.hint
    )


def test_an_older_plugin_with_fewer_arguments_works(site: Path) -> None:
    backend(site, "alpha", FOUR.replace("count_rows(context, target)", "count_rows(context)"))
    host = PluginHost()
    host.load_backends(["alpha"])
    assert host.caller("alpha", Hook.COUNT_ROWS)(context=None, target=None) == 7


def test_every_hook_may_lack_its_trailing_arguments(site: Path) -> None:
    """As a plugin has them that was written when the hooks had fewer."""
    hooks = [
        f"@hookimpl\ndef {name}({', '.join(arguments[:-1])}): return {name!r}\n"
        for name in HOOKS
        if (arguments := list(inspect.signature(getattr(hookspecs, name)).parameters))
    ]
    backend(site, "alpha", "from seeknal_core.contract.hooks import hookimpl\n" + "".join(hooks))
    host = PluginHost()
    host.load_backends(["alpha"])
    for name in HOOKS:
        wanted = inspect.signature(getattr(hookspecs, name)).parameters
        if wanted:
            found = host.caller("alpha", name)(**dict.fromkeys(wanted))
            assert found == name


def test_a_newer_hook_api_is_refused(site: Path) -> None:
    backend(site, "alpha", FOUR + "\nSEEKNAL_HOOK_API = 99\n")
    with pytest.raises(BackendBroken, match="hook API 99") as raised:
        PluginHost().load_backends(["alpha"])
    assert "upgrade seeknal-core" in raised.value.hint


def test_calls_reach_the_backend_of_their_type_alone(site: Path) -> None:
    backend(site, "alpha", FOUR)
    backend(site, "beta", FOUR.replace("return 7", "return 8"))
    host = PluginHost()
    host.load_backends(["alpha", "beta"])
    assert host.caller("alpha", Hook.COUNT_ROWS)(context=None, target=None) == 7
    assert host.caller("beta", Hook.COUNT_ROWS)(context=None, target=None) == 8


def test_a_wrapper_sees_the_calls_of_every_backend(site: Path) -> None:
    backend(site, "alpha", FOUR)
    install(
        site,
        distribution="seeknal-audit",
        module="toy_audit",
        source=(
            "from seeknal_core.contract.hooks import hookimpl\nseen = []\n"
            "@hookimpl(wrapper=True)\ndef count_rows(context, target):\n"
            "    result = yield\n    seen.append(result)\n    return result + 1\n"
        ),
        entry_points={WRAPPERS: {"audit": "toy_audit"}},
    )
    host = PluginHost()
    host.load_backends(["alpha"])
    assert host.load_wrappers() == ()
    assert host.caller("alpha", Hook.COUNT_ROWS)(context=None, target=None) == 8
    assert sys.modules["toy_audit"].seen == [7]


def test_a_wrapper_plugin_that_wraps_nothing_hurts_no_backend(site: Path) -> None:
    backend(site, "alpha", FOUR)
    install(
        site,
        distribution="seeknal-hijack",
        module="toy_hijack",
        source="from seeknal_core.contract.hooks import hookimpl\n@hookimpl\ndef count_rows(context, target): return 0\n",
        entry_points={WRAPPERS: {"hijack": "toy_hijack"}},
    )
    host = PluginHost()
    host.load_backends(["alpha"])
    (failure,) = host.load_wrappers()
    assert "implements count_rows without being a wrapper" in failure.message
    assert host.caller("alpha", Hook.COUNT_ROWS)(context=None, target=None) == 7


def test_a_disabled_plugin_is_left_out(site: Path) -> None:
    backend(site, "alpha", FOUR)
    host = PluginHost.from_environment({"SEEKNAL_DISABLE_PLUGINS": "alpha, other"})
    assert "alpha" not in [info.name for info in host.installed(BACKENDS)]
    with pytest.raises(BackendNotInstalled, match="switched off"):
        host.load_backends(["alpha"])


def test_tracing_prints_calls_and_results(site: Path) -> None:
    backend(site, "alpha", FOUR)
    lines: list[str] = []
    host = PluginHost(trace=lines.append)
    host.load_backends(["alpha"])
    host.caller("alpha", Hook.COUNT_ROWS)(context=None, target="t")
    assert lines == ["hook count_rows(target='t')", "hook count_rows -> 7"]


@pytest.mark.parametrize("returned", ["None", "'seven'", "True"])
def test_a_wrong_result_type_names_plugin_and_hook(site: Path, returned: str) -> None:
    backend(site, "alpha", FOUR.replace("return 7", f"return {returned}"))
    host = PluginHost()
    host.load_backends(["alpha"])
    with pytest.raises(HookContractError, match=r"seeknal-alpha 3\.1: count_rows returned"):
        HookCalls(host).call("alpha", Hook.COUNT_ROWS, int, context=None, target=None)


def test_a_foreign_exception_is_wrapped_with_the_plugins_name(site: Path) -> None:
    backend(site, "alpha", FOUR.replace("return 7", "return {}['missing']"))
    host = PluginHost()
    host.load_backends(["alpha"])
    with pytest.raises(PluginError, match=r"seeknal-alpha 3\.1 failed in count_rows: KeyError"):
        HookCalls(host).call("alpha", Hook.COUNT_ROWS, int, context=None, target=None)


def test_a_wrapper_that_knows_one_target_at_a_time_gets_to_see_each(site: Path) -> None:
    several = "def materialize_targets(context, targets, snapshots):\n    return (yield)\n"
    backend(site, "alpha", f"{FOUR}\n@hookimpl\n{several.replace('return (yield)', '...')}")
    one = "def materialize(context, target, snapshot):\n    return (yield)\n"
    wraps = "@hookimpl(wrapper=True)\n"
    for name, source in (("both", f"{wraps}{one}{wraps}{several}"), ("one", f"{wraps}{one}")):
        install(
            site,
            distribution=f"seeknal-{name}",
            module=f"toy_{name}",
            source=f"from seeknal_core.contract.hooks import hookimpl\n{source}",
            entry_points={WRAPPERS: {name: f"toy_{name}"}},
        )
    host = PluginHost()
    host.load_backends(["alpha"])
    assert host.together("alpha", Hook.MATERIALIZE_TARGETS)
    host.load_wrapper("both")
    assert host.together("alpha", Hook.MATERIALIZE_TARGETS)
    host.load_wrapper("one")
    assert not host.together("alpha", Hook.MATERIALIZE_TARGETS)
