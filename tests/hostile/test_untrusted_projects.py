"""With SEEKNAL_UNTRUSTED=1 a stranger's checkout decides nothing that the machine didn't allow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seeknal_core.cli.main import cli
from seeknal_core.contract.errors import SeeknalError
from seeknal_core.engine.duckdb import DuckDBEngine
from seeknal_core.project.untrusted import checkout_of
from support.cli import Cli, Result, write
from support.distributions import install
from support.shop import PROJECT

Stranger = Callable[..., Result]


@pytest.fixture
def stranger(seeknal: Cli, project: Path, tmp_path: Path) -> Stranger:
    """The command in a stranger's checkout, on a machine that has a profile of its own."""
    profile = PROJECT["profiles.yml"].replace("./lake", str(tmp_path / "lake"))
    write(tmp_path / "home" / ".seeknal", {"profiles.yml": profile})

    def run(*args: str, code: int | None = 0, **environ: str) -> Result:
        return seeknal(*args, code=code, **{"SEEKNAL_UNTRUSTED": "1", **environ})

    return run


def test_its_profiles_and_its_env_file_are_not_read_and_listed(
    stranger: Stranger, project: Path, tmp_path: Path
) -> None:
    write(
        project,
        {
            ".env": "PW=stranger\nbroken line\n",
            "profiles.yml": "nonsense: [",
            "profiles-prod.yml": "connections: {lake: {type: folder, path: ./stranger}}\n",
            "profiles-dev.yml": "connections: {lake: {type: folder, path: ./stranger}}\n",
        },
    )
    for command in ("check", "run", "run --env dev", "env plan new", "env apply new"):
        said = stranger(*command.split())
        assert "profile: default profiles.yml in ~/.seeknal" in said.out
        if "apply" not in command:
            for name in (".env", "profiles.yml", "profiles-prod.yml", "profiles-dev.yml"):
                assert f"{name}: is ignored: the project is untrusted" in said.err, command
    assert stranger("env", "promote", "dev", "--yes").code == 0
    assert not (project / "stranger").exists()
    assert (tmp_path / "lake" / "sales" / "totals.parquet").exists()


WAYS = {
    "by name": ["profiles.yml"],
    "by another folder": ["../shop/profiles.yml"],
    "absolute": ["{project}/profiles.yml"],
    "through a link to the checkout": ["../link/profiles.yml"],
    "by a link that lies beside the checkout": ["../linked.yml"],
    "by a link in the checkout to one outside": ["away.yml"],
    "of the repository around the project": ["../profiles-ci.yml"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", ["--profile", "SEEKNAL_PROFILE"])
def test_a_profile_that_is_named_lies_outside_of_the_checkout(
    stranger: Stranger, project: Path, tmp_path: Path, way: str, by: str
) -> None:
    own = tmp_path / "home" / ".seeknal" / "profiles.yml"
    (tmp_path / "link").symlink_to(project)
    (tmp_path / "linked.yml").symlink_to(project / "profiles.yml")
    (project / "away.yml").symlink_to(own)
    write(tmp_path, {"profiles-ci.yml": own.read_text(), ".git/HEAD": ""})
    if "repository" not in way:
        (tmp_path / ".git" / "HEAD").unlink()
        (tmp_path / ".git").rmdir()
    (path,) = (each.format(project=project) for each in WAYS[way])
    given = {"SEEKNAL_PROFILE": path} if by == "SEEKNAL_PROFILE" else {}
    options = ["--profile", path] if by == "--profile" else []
    said = stranger("check", *options, code=2, **given).err
    assert "lies in the checkout, and the project is untrusted" in said
    assert by in said
    if "repository" not in way:
        write(tmp_path, {"elsewhere/p.yml": own.read_text()})
        stranger("check", "--profile", "../elsewhere/p.yml")


def test_the_checkout_of_a_submodule_is_the_repository_around_it(tmp_path: Path) -> None:
    top = tmp_path / "top"
    write(
        top, {".git/modules/shop/HEAD": "", "parts/shop/.git": "gitdir: ../../.git/modules/shop\n"}
    )
    assert checkout_of(top / "parts" / "shop") == top.resolve()
    write(tmp_path, {"tree/.git": f"gitdir: {top}/.git/worktrees/tree\n"})
    assert checkout_of(tmp_path / "tree") == (tmp_path / "tree").resolve()
    write(tmp_path, {"odd/.git": "gitdir: \0x\n"})
    assert checkout_of(tmp_path / "odd") == (tmp_path / "odd").resolve()


def test_a_home_of_profiles_in_the_checkout_is_refused(stranger: Stranger, project: Path) -> None:
    write(project, {"conf/profiles.yml": PROJECT["profiles.yml"]})
    said = stranger("check", code=2, SEEKNAL_HOME=str(project / "conf")).err
    assert "lies in the checkout" in said


def test_settings_that_place_or_widen_are_ignored_and_listed(
    stranger: Stranger, project: Path, tmp_path: Path
) -> None:
    write(
        project,
        {
            "seeknal_project.yml": (
                "name: shop\n"
                f"engine: {{name: duckdb, temp_directory: {tmp_path}/spill, memory_limit: 90%,"
                " threads: 500}\n"
                "environments: {promote: ship, ttl: 9999d, copy_limit: 900TB}\n"
                f"files: {{allow: [{tmp_path}/beside]}}\n"
                "env_vars: [REGION]\n"
            ),
            "seeknal/totals.sql": PROJECT["seeknal/totals.sql"].replace(
                "table: sales.totals", "table: sales.totals, place: /elsewhere"
            ),
        },
    )
    said = stranger("run").err
    for what in ("engine.memory_limit", "engine.threads", "engine.temp_directory", "environments"):
        assert f"{what}: is ignored: the project is untrusted" in said
    assert f"files.allow: {tmp_path}/beside is ignored" in said
    assert "env_vars: REGION is ignored" in said
    assert "transform.totals: place is ignored" in said
    assert not (tmp_path / "spill").exists()
    allowed = {"SEEKNAL_FILES_ALLOW": str(tmp_path / "beside"), "SEEKNAL_ENV_VARS": "REGION"}
    said = stranger("check", **allowed).err
    assert "files.allow" not in said and "env_vars" not in said


@pytest.mark.parametrize(
    "line",
    [
        "state: postgresql://evil/db",
        "state: ../elsewhere",
        "snapshots: s3://evil/rows",
        "production: dev",
        "production: live",
    ],
)
def test_another_place_or_another_production_is_refused(
    stranger: Stranger, project: Path, line: str
) -> None:
    write(project, {"seeknal_project.yml": f"name: shop\n{line}\n"})
    for command in ("check", "run", "env plan dev", "env list", "query FROM_totals"):
        words = [word.replace("FROM_", "FROM ") for word in command.split()]
        said = stranger(*words, code=2).err
        assert f"seeknal_project.yml:2:1: {line.partition(':')[0]}: " in said, command
        assert "the project is untrusted" in said
    assert not list((project / "target").glob("snapshots/*"))


def test_the_machine_may_say_what_production_is_called(stranger: Stranger, project: Path) -> None:
    write(project, {"seeknal_project.yml": "name: shop\nproduction: live\nstate: target\n"})
    stranger("check", SEEKNAL_PRODUCTION="live")
    write(project, {"seeknal_project.yml": "name: shop\n"})
    assert "production is 'prod'" in stranger("check", code=2, SEEKNAL_PRODUCTION="live").err


@pytest.mark.parametrize(
    "table",
    [
        "https://169.254.169.254/latest/meta-data",
        "s3://private/rows.csv",
        "https://data.example/public/../private.csv",
        "https://data.example/public/%2e%2e/private.csv",
        "https://data.example/publicly.csv",
        "https://data.example.evil/public/x.csv",
        '\'{{ var("u", "https://evil/x.csv") }}\'',
    ],
)
def test_addresses_are_read_only_where_the_machine_allows_them(
    stranger: Stranger, project: Path, table: str
) -> None:
    write(project, {"seeknal/far.yml": f"kind: source\nname: far\nsource: csv\ntable: {table}\n"})
    allows = {"SEEKNAL_FILES_ALLOW": "/srv/a:/srv/b,https://data.example/public"}
    for command in ("check", "run", "run --dry-run", "env plan dev"):
        said = stranger(*command.split(), code=2, **allows).err
        assert "seeknal/far.yml:1:1: source.far: " in said
        assert "is not on this machine, and the project is untrusted" in said


def test_an_address_that_the_machine_allows_is_asked(stranger: Stranger, project: Path) -> None:
    text = "kind: source\nname: far\nsource: csv\ntable: https://localhost:1/public/x.csv\n"
    write(project, {"seeknal/far.yml": text})
    allows = {"SEEKNAL_FILES_ALLOW": "https://localhost:1/public"}
    stranger("check", **allows)
    assert "source.far: failed" in stranger("run", code=1, **allows).err


def test_links_that_lead_out_of_the_project_are_refused(
    stranger: Stranger, project: Path, tmp_path: Path
) -> None:
    write(tmp_path, {"outside/x.yml": PROJECT["seeknal/big.yml"].replace("big", "other")})
    (project / "seeknal" / "linked").symlink_to(tmp_path / "outside")
    assert "seeknal/linked" in stranger("check", code=2).err
    (project / "seeknal" / "linked").unlink()
    (project / "seeknal_project.yml").rename(tmp_path / "outside" / "seeknal_project.yml")
    (project / "seeknal_project.yml").symlink_to(tmp_path / "outside" / "seeknal_project.yml")
    said = stranger("check", code=2).err
    assert "seeknal_project.yml: is a link that leads out of the project" in said


@pytest.mark.parametrize("command", ["run", "query", "plan"])
@pytest.mark.parametrize("untrusted", ["0", "1"])
def test_each_command_opens_the_engine_that_keeps_nodes_apart(
    project: Path,
    folder_site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    untrusted: str,
) -> None:
    """In this process, to see how it is opened."""
    opened: list[bool] = []
    real = DuckDBEngine.__init__

    def noting(self: DuckDBEngine, *args: object, **more: object) -> None:
        opened.append(bool(more.get("untrusted")))
        real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DuckDBEngine, "__init__", noting)
    monkeypatch.setenv("SEEKNAL_UNTRUSTED", untrusted)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(folder_site))
    write(
        project,
        {
            "seeknal/totals.sql": "SELECT customer FROM source.orders\n",
            "seeknal/big.yml": "kind: transform\nname: big\ntransform: FROM transform.totals\n",
            "data/more.csv": "id,customer,amount\nx,ada,10\n",
            "seeknal/both.yml": "kind: source\nname: both\nsource: csv\ntable: data/*.csv\n",
        },
    )
    words = {
        "run": ["run"],
        "plan": ["plan", "dev"],
        "query": ["query", "FROM totals"],
    }[command]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        if command == "query":
            cli.main(["run"], standalone_mode=False, obj={})
            opened.clear()
        cli.main(words, standalone_mode=False, obj={})
    assert opened and set(opened) == {untrusted == "1"}


def test_what_looks_like_an_installed_plugin_in_the_checkout_is_not_one(
    project: Path, tmp_path: Path
) -> None:
    """``python -m`` puts the working folder first on the path."""
    marking = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
    install(
        project,
        distribution="seeknal-evil",
        module="evil",
        source=marking,
        entry_points={"seeknal.plugins": {"evil": "evil"}},
    )
    write(project, {"yaml.py": marking, "attrs.py": marking, "click.py": marking})
    profile = {"profiles.yml": "connections: {}\n"}
    write(tmp_path / "home" / ".seeknal", profile)
    write(project, {"seeknal/totals.sql": "SELECT 1 AS a\n", "seeknal/big.yml": ""})
    (project / "seeknal" / "big.yml").unlink()
    seeknal = Cli(cwd=project, environ={"HOME": str(tmp_path / "home")})
    for setting in ({"SEEKNAL_UNTRUSTED": "1"}, {"SEEKNAL_NO_PYTHON": "1"}):
        for command in (["check"], ["run"], ["plugins", "list"]):
            seeknal(*command, code=0, **setting)
    assert not (project / "ran").exists()


def test_the_example_of_an_untrusted_pull_request_works(
    seeknal: Cli, project: Path, tmp_path: Path
) -> None:
    """The commands of the page, as they stand there, in a fresh checkout."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    job = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    steps = re.findall(r"- run: (.*)", job)
    assert len(steps) == 5 and 'SEEKNAL_UNTRUSTED: "1"' in job
    write(tmp_path, {"machine/pull-requests.yml": PROJECT["profiles.yml"]})
    shutil.rmtree(project / "target", ignore_errors=True)
    write(tmp_path, {"bin/seeknal": f'#!/bin/sh\nexec {sys.executable} -m seeknal_core "$@"\n'})
    (tmp_path / "bin" / "seeknal").chmod(0o755)
    environ = seeknal.environment(
        SEEKNAL_UNTRUSTED="1",
        SEEKNAL_PROFILE=str(tmp_path / "machine" / "pull-requests.yml"),
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    for step in steps:
        line = step.replace("${{ github.event.number }}", "7")
        done = subprocess.run(
            ["sh", "-ec", line], cwd=project, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert list((project / "lake").rglob("*.parquet")) == []


def test_refusals_are_configuration_errors() -> None:
    from seeknal_core.project.untrusted import refuse_inside

    with pytest.raises(SeeknalError) as raised:
        refuse_inside(Path(os.getcwd(), "x.yml"), Path(os.getcwd()), "--profile")
    assert raised.value.exit_code == 2
