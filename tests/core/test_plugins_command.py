"""What the command says of plugins, and what a broken one hurts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seeknal_core.contract.hooks import HOOK_API
from support.cli import Cli
from support.distributions import install

WRAPPER = """
from seeknal_core.contract.hooks import hookimpl
@hookimpl(wrapper=True)
def count_rows(context, target):
    return (yield)
"""

#: Of each fault the source of a plugin, and what is said of it.
FAULTS = {
    "cannot be imported": ("import no_such_module", "No module named 'no_such_module'"),
    "newer hook API": ("SEEKNAL_HOOK_API = 99", "hook API 99"),
    "misspelled hook": (WRAPPER.replace("count_rows", "count_row"), "did you mean 'count_rows'"),
    "misspelled argument": (WRAPPER.replace(", target", ", tarqet"), "did you mean 'target'"),
    "no wrapper": (
        WRAPPER.replace("(wrapper=True)", "").replace("(yield)", "1"),
        "without being a wrapper",
    ),
}


def plugin(site: Path, source: str, *, group: str = "seeknal.plugins", name: str = "audit") -> None:
    install(
        site,
        distribution=f"seeknal-{name}",
        module=f"toy_{name}",
        source=source,
        entry_points={group: {name: f"toy_{name}"}},
        version="2.5",
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_is_named_and_stops_nothing(
    seeknal: Cli, folder_site: Path, fault: str
) -> None:
    source, words = FAULTS[fault]
    plugin(folder_site, source)
    said = seeknal("run").err
    [line] = [line for line in said.splitlines() if "audit" in line]
    assert "seeknal-audit 2.5" in line
    assert words in line
    assert "audit" in seeknal("plugins", "list").out


@pytest.mark.parametrize("place", ["before", "behind", "in the environment"])
def test_strict_plugins_make_it_an_error(seeknal: Cli, folder_site: Path, place: str) -> None:
    plugin(folder_site, "import no_such_module")
    arguments = {
        "before": ["--strict-plugins", "run"],
        "behind": ["run", "--strict-plugins"],
        "in the environment": ["run"],
    }[place]
    environ: dict[str, Any] = (
        {"SEEKNAL_STRICT_PLUGINS": "1"} if place == "in the environment" else {}
    )
    failed = seeknal(*arguments, code=2, **environ)
    assert "seeknal-audit 2.5" in failed.err
    assert "Next: pip install --upgrade seeknal-audit" in failed.err
    assert not (seeknal.cwd / "lake").exists()
    seeknal(*arguments, SEEKNAL_DISABLE_PLUGINS="audit", **environ)


@pytest.mark.parametrize("fault", ["cannot be imported", "newer hook API", "misspelled hook"])
def test_a_broken_backend_hurts_what_needs_it_alone(
    seeknal: Cli, folder_site: Path, fault: str
) -> None:
    source, words = FAULTS[fault]
    plugin(folder_site, source, group="seeknal.backends", name="clickhaus")
    seeknal("run")
    assert "backend clickhaus: seeknal-clickhaus 2.5" in seeknal("plugins", "list").out
    failed = seeknal("plugins", "show", "clickhaus", code=2)
    assert "seeknal-clickhaus 2.5" in failed.err and words in failed.err
    assert "Next: " in failed.err


def test_a_wrapper_plugin_is_shown_with_its_hooks(seeknal: Cli, folder_site: Path) -> None:
    plugin(folder_site, WRAPPER)
    assert "wraps hooks: count_rows" in seeknal("plugins", "show", "audit").out
    shown = seeknal("plugins", "show", "audit", "--json").json()
    assert (shown["distribution"], shown["version"]) == ("seeknal-audit", "2.5")
    assert shown["hooks"] == ["count_rows"]


def test_the_list_is_a_document(seeknal: Cli, folder_site: Path) -> None:
    plugin(folder_site, WRAPPER)
    plugin(folder_site, "", group="seeknal.backends", name="folder")
    document = seeknal("plugins", "list", "--json").json()
    assert document["hook_api"] == HOOK_API
    found = {(one["group"], one["name"]): one for one in document["plugins"]}
    assert found["seeknal.plugins", "audit"]["version"] == "2.5"
    assert not found["seeknal.plugins", "audit"]["claimed_twice"]


def test_a_type_that_is_claimed_twice_is_marked(seeknal: Cli, folder_site: Path) -> None:
    install(
        folder_site,
        distribution="other-folder",
        module="other_folder",
        source="",
        entry_points={"seeknal.backends": {"folder": "other_folder"}},
    )
    assert seeknal("plugins", "list").out.count("claimed twice") == 2
    assert seeknal("plugins", "list", "--json").out.count('"claimed_twice": true') == 2
    failed = seeknal("run", code=2)
    assert "other-folder 1.0" in failed.err and "seeknal-folder 1.0" in failed.err


def test_hook_calls_are_traced_without_secrets(seeknal: Cli) -> None:
    traced = seeknal("run", SEEKNAL_TRACE_HOOKS="1").err
    assert "hook materialize(" in traced and "hook materialize -> WriteResult(" in traced
    assert "s3cret-word" not in traced
    assert "hook " not in seeknal("run", SEEKNAL_TRACE_HOOKS="0").err


def test_a_disabled_backend_is_not_there(seeknal: Cli) -> None:
    assert "folder" not in seeknal("plugins", "list", SEEKNAL_DISABLE_PLUGINS="folder").out
    failed = seeknal("run", code=2, SEEKNAL_DISABLE_PLUGINS="folder")
    assert "switched off by SEEKNAL_DISABLE_PLUGINS" in failed.err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def count_rows(context, target): return 'seven'", "count_rows returned str, not int"),
        ("def count_rows(context, target): return {}['x']", "failed in count_rows: KeyError"),
    ],
)
def test_a_backend_that_answers_wrongly_is_named(
    seeknal: Cli, folder_site: Path, source: str, words: str
) -> None:
    plugin(
        folder_site,
        "import seeknal_folder\nfrom seeknal_core.contract.hooks import hookimpl\n"
        f"globals().update(vars(seeknal_folder))\n@hookimpl\n{source}\n",
        group="seeknal.backends",
        name="odd",
    )
    profiles = seeknal.cwd / "profiles.yml"
    profiles.write_text(profiles.read_text("utf-8").replace("type: folder", "type: odd"), "utf-8")
    for path in (*seeknal.cwd.glob("seeknal/*.sql"), *seeknal.cwd.glob("seeknal/*.yml")):
        path.write_text(path.read_text("utf-8").replace("type: folder", "type: odd"), "utf-8")
    seeknal("run", "--env", "dev")
    failed = seeknal("env", "promote", "dev", "prod", code=None)
    assert failed.code != 0
    assert "seeknal-odd 2.5" in failed.said and words in failed.said
