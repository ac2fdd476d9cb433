"""Templates read the variables that the project file lists, and ``.env`` steers nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.project import load_env_file
from seeknal_core.project.allowed_variables import is_secret_name
from support.cli import Cli, write


def project(folder: Path, sql: str, more: str = "") -> Cli:
    write(
        folder,
        {
            "seeknal_project.yml": f"name: shop\n{more}",
            "seeknal/s.yml": "kind: source\nname: s\nsource: csv\ntable: a.csv\n",
            "seeknal/t.sql": sql,
            "a.csv": "a\n1\n",
        },
    )
    return Cli(cwd=folder, warm=True)


REGION = "SELECT '{{ env_var(\"REGION\") }}' AS r FROM source.s"


@pytest.mark.parametrize("call", ['env_var("REGION")', 'env_var("REGION", "x")'])
def test_a_variable_that_is_not_listed_is_not_read(tmp_path: Path, call: str) -> None:
    seeknal = project(tmp_path, f"SELECT '{{{{ {call} }}}}' AS r FROM source.s")
    for command in (["check"], ["run"], ["plan", "dev", "--show-sql"]):
        said = seeknal(*command, code=2, REGION="h1dden").said
        assert "seeknal/t.sql:1:9: the project file does not list" in said
        assert "env_vars: [REGION]" in said and "h1dden" not in said
    write(tmp_path, {"seeknal_project.yml": "name: shop\nenv_vars: [REGION]\n"})
    seeknal("run", REGION="eu")
    assert "eu" in seeknal("query", "SELECT * FROM transform.t", REGION="eu").out


def test_the_printed_line_lists_all_that_is_used(tmp_path: Path) -> None:
    sql = REGION + " WHERE a > {{ env_var('LEAST', 0) }}"
    seeknal = project(tmp_path, sql, "env_vars: [OTHER]\n")
    source = 'kind: source\nname: u\nsource: csv\ntable: \'{{ env_var("WHERE", "a.csv") }}\'\n'
    write(tmp_path, {"seeknal/u.yml": source})
    said = seeknal("check", code=2).said
    assert said.count("env_vars: [LEAST, OTHER, REGION, WHERE]") == 3


@pytest.mark.parametrize(
    "name",
    [
        *("TOKEN", "DB_PASSWORD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        *("API_KEY", "db_pwd", "GH_PAT", "MyPassphrase", "GOOGLE_CREDENTIALS", "SENTRY_DSN"),
    ],
)
def test_a_secret_is_never_given_to_a_template(tmp_path: Path, name: str) -> None:
    assert is_secret_name(name)
    call = f'{{{{ env_var("{name}", "x") }}}}'
    said = project(tmp_path, f"SELECT '{call}' AS r FROM source.s")("check", code=2).said
    assert f"{name} looks like a secret" in said and f"${{{name}}} in a profile" in said
    assert "env_vars" not in said


@pytest.mark.parametrize(
    "name", ["REGION", "PWD", "MONKEY", "KEYBOARD", "AUTHOR", "COMPASS", "PATH"]
)
def test_other_names_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_a_password_in_a_url_is_not_given(tmp_path: Path) -> None:
    sql = REGION.replace("REGION", "DATABASE_URL")
    seeknal = project(tmp_path, sql, "env_vars: [DATABASE_URL]\n")
    said = seeknal("check", code=2, DATABASE_URL="postgresql://u:h1dden@db/x").said
    assert "holds a password" in said and "h1dden" not in said


def test_a_secret_cannot_be_listed(tmp_path: Path) -> None:
    said = project(tmp_path, "SELECT 1 AS a", "env_vars: [REGION, DB_PASSWORD]\n")(
        "check", code=2
    ).said
    assert "seeknal_project.yml:2:20: env_vars[1]: DB_PASSWORD looks like a secret" in said


def test_no_secret_reaches_the_files_of_a_project(tmp_path: Path) -> None:
    sql = REGION.replace("REGION", "API_TOKEN")
    seeknal = project(tmp_path, sql)
    for command in (["check"], ["run"], ["plan", "dev", "--show-sql"], ["plan", "--json", "dev"]):
        assert "h1dden" not in seeknal(*command, code=2, API_TOKEN="h1dden").said
    for path in (tmp_path / "target").rglob("*"):
        assert not path.is_file() or b"h1dden" not in path.read_bytes(), path


def test_an_untrusted_project_reads_what_the_machine_lists(tmp_path: Path) -> None:
    seeknal = project(tmp_path, REGION, "env_vars: [REGION]\n")
    write(tmp_path, {".env": "REGION=of-the-file\n"})
    said = seeknal("check", code=2, REGION="eu", SEEKNAL_UNTRUSTED="1").said
    assert "untrusted" in said and "set SEEKNAL_ENV_VARS=REGION" in said
    lists = {"SEEKNAL_UNTRUSTED": "1", "SEEKNAL_ENV_VARS": "REGION"}
    environ = Cli(cwd=tmp_path, environ=lists, warm=True)
    assert "'REGION' is not set" in environ("check", code=2).said
    environ("check", REGION="eu")


# --- .env


@pytest.mark.parametrize(
    "name", ["SEEKNAL_PROFILE", "SEEKNAL_HOME", "SEEKNAL_UNTRUSTED", "seeknal_x"]
)
def test_the_env_file_cannot_steer_seeknal(tmp_path: Path, name: str) -> None:
    write(tmp_path, {".env": f"A_B=1\n{name}=h1dden\n"})
    with pytest.raises(ConfigError, match=rf"\.env:2: {name} cannot be set here"):
        load_env_file(tmp_path)
    assert name not in os.environ


DANGEROUS = [
    *("PATH", "LD_PRELOAD", "PYTHONPATH", "HOME", "TMPDIR", "DYLD_INSERT_LIBRARIES", "BASH_ENV"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSLKEYLOGFILE", "https_proxy", "ALL_PROXY"),
    *("AWS_CONFIG_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "PYICEBERG_CATALOG__LAKE__URI"),
    *("PGHOSTADDR", "PGSSLMODE", "PGSERVICEFILE", "PGOPTIONS", "HOSTALIASES", "KRB5_CONFIG"),
]


@pytest.mark.parametrize("name", DANGEROUS)
def test_the_env_file_cannot_steer_programs(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    write(tmp_path, {".env": f"{name}=h1dden\nSK_HARMLESS=1\n"})
    (warning,) = load_env_file(tmp_path)
    assert str(warning).startswith(f".env:1: {name} is not taken from here")
    assert "h1dden" not in str(warning)
    assert name not in os.environ
    assert os.environ.pop("SK_HARMLESS") == "1"


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("PGHOST", "PGPASSWORD"),
        ("AWS_ENDPOINT_URL_S3", "AWS_SECRET_ACCESS_KEY"),
        ("OPENLINEAGE_URL", "OPENLINEAGE_API_KEY"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_an_address_comes_with_its_secret(
    tmp_path: Path, address: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (address, secret):
        # Set first, so that what the file sets is taken away again.
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv(secret, "of-the-process")
    write(tmp_path, {".env": f"{address}=evil\n"})
    assert len(load_env_file(tmp_path)) == 1
    assert address not in os.environ
    write(tmp_path, {".env": f"{address}=evil\n{secret}=mine\n"})
    assert len(load_env_file(tmp_path)) == 1
    assert address not in os.environ
    monkeypatch.delenv(secret)
    assert load_env_file(tmp_path) == ()
    assert (os.environ.pop(address), os.environ.pop(secret)) == ("evil", "mine")


def test_the_env_file_cannot_rename_a_secret(tmp_path: Path) -> None:
    write(tmp_path, {".env": "REGION=x${DB_PASSWORD:-}\n"})
    with pytest.raises(ConfigError, match=r"\.env:1: REGION is made of DB_PASSWORD"):
        load_env_file(tmp_path)


def test_a_warning_about_the_env_file_is_shown(tmp_path: Path) -> None:
    seeknal = project(tmp_path, "SELECT a FROM source.s")
    write(tmp_path, {".env": "PYTHONPATH=/x\n"})
    assert ".env:1: PYTHONPATH is not taken from here" in seeknal("check").said
