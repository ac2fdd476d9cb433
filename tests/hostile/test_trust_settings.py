"""The machine's settings about trust: read strictly, before anything of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.project.trust import Trust, switch
from support.cli import Cli, write


@pytest.mark.parametrize(
    ("word", "on"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("False", False), ("no", False)],
)
def test_a_switch_is_on_or_off(word: str, on: bool) -> None:
    assert switch({"S": word}, "S") is on
    assert switch({}, "S") is switch({"S": ""}, "S") is False


@pytest.mark.parametrize("name", ["SEEKNAL_UNTRUSTED", "SEEKNAL_NO_PYTHON"])
@pytest.mark.parametrize("word", ["on", "y", "2", " 1", "1 ", "off", "tru", "\u0661"])
def test_a_switch_that_says_anything_else_ends_the_command(name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is neither on nor off") as raised:
        Trust.from_environment({name: word})
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "name",
    ["SEEKNAL_UNTRUSTED", "SEEKNAL_NO_PYTHON", "SEEKNAL_STRICT_PLUGINS", "SEEKNAL_TRACE_HOOKS"],
)
def test_every_command_refuses_such_a_switch(name: str, tmp_path: Path) -> None:
    write(tmp_path, {"seeknal_project.yml": "name: shop\n"})
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path), name: "maybe"}, warm=True)
    for command in (["check"], ["run"], ["plugins", "list"]):
        assert f"{name} is neither on nor off" in seeknal(*command, code=2).err


def test_the_machines_folders_are_absolute(tmp_path: Path) -> None:
    trust = Trust.from_environment({"SEEKNAL_FILES_ALLOW": f"{tmp_path}:/srv/data"})
    assert trust.folders == (tmp_path.resolve(), Path("/srv/data").resolve())
    with pytest.raises(ConfigError, match="data is not an absolute folder"):
        Trust.from_environment({"SEEKNAL_FILES_ALLOW": f"{tmp_path}:data"})


def test_the_machines_variables_are_names() -> None:
    trust = Trust.from_environment({"SEEKNAL_ENV_VARS": "REGION, DAY"})
    assert trust.variables == {"REGION", "DAY"}
    with pytest.raises(ConfigError, match="'A B' is not a variable's name"):
        Trust.from_environment({"SEEKNAL_ENV_VARS": "A B"})


def test_what_a_project_asks_for_counts_untrusted_only_where_the_machine_says_so(
    tmp_path: Path,
) -> None:
    inside, link = tmp_path / "allowed" / "below", tmp_path / "allowed" / "link"
    inside.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    environ = {
        "SEEKNAL_UNTRUSTED": "1",
        "SEEKNAL_FILES_ALLOW": str(tmp_path / "allowed"),
        "SEEKNAL_ENV_VARS": "REGION",
    }
    trust = Trust.from_environment(environ)
    assert trust.allows_folder(inside)
    assert not trust.allows_folder(link)
    assert not trust.allows_folder(tmp_path)
    assert trust.allows_variable("REGION")
    assert not trust.allows_variable("TOKEN")
    assert not trust.python
    trusted = Trust.from_environment({})
    assert trusted.allows_folder(Path("/"))
    assert trusted.allows_variable("TOKEN")
    assert trusted.python
