"""Which profile, what stands in it, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.options import Filled, structure
from seeknal_core.contract.types import Mode, Profile, redact
from seeknal_core.project import (
    ProfileChoice,
    choose_profile,
    environment_for,
    load_profile,
    parse_environment_name,
    seeknal_home,
)
from seeknal_core.project.specs import ProjectSettings


def settings_of(root: Path, production: str = "prod") -> ProjectSettings:
    return ProjectSettings(name="shop", root=str(root), production=production)


def load(root: Path, text: str, variables: Mapping[str, str] | None = None) -> Profile:
    path = root / "profiles.yml"
    path.write_text(text)
    return load_profile(ProfileChoice(path=path, reason="test"), settings_of(root), variables or {})


def refusal(root: Path, text: str, variables: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(root, text, variables)
    return [str(problem) for problem in caught.value.problems]


def option(profile: Profile, name: str) -> object:
    return profile.connections["w"].options[name]


# Choosing


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def test_the_four_rules_in_their_order(root: Path, home: Path) -> None:
    files = [
        home / "profiles.yml",
        root / "profiles.yml",
        home / "profiles-dev.yml",
        root / "profiles-dev.yml",
    ]
    expected = [
        (f"default profiles.yml in {home}, names prefixed with dev_", True),
        ("default profiles.yml, names prefixed with dev_", True),
        (f"profiles-dev.yml in {home}", False),
        ("profiles-dev.yml in the project", False),
    ]
    settings = settings_of(root)
    for file, (reason, convention) in zip(files, expected, strict=True):
        file.write_text("connections: {}\n")
        choice = choose_profile(settings, "dev", explicit=None, home=home)
        assert choice == ProfileChoice(path=file, reason=reason, convention=convention)
    other = root / "other.yml"
    other.write_text("connections: {}\n")
    choice = choose_profile(settings, "dev", explicit=str(other), home=home)
    assert choice == ProfileChoice(path=other, reason=f"--profile {other}", given=True)


def test_production_gets_no_prefix_from_the_default_profile(root: Path) -> None:
    (root / "profiles.yml").write_text("connections: {}\n")
    choice = choose_profile(settings_of(root), "prod", explicit=None, home=None)
    assert (choice.reason, choice.convention) == ("default profiles.yml", False)


def test_productions_own_profile_serves_no_other_environment(root: Path, home: Path) -> None:
    (root / "profiles-prod.yml").write_text("connections: {}\n")
    (home / "profiles-prod.yml").write_text("connections: {}\n")
    settings = settings_of(root)
    assert choose_profile(settings, "dev", explicit=None, home=home).path is None
    chosen = choose_profile(settings, "prod", explicit=None, home=home)
    assert chosen.path == root / "profiles-prod.yml"


def test_no_profile_is_fine_and_says_so(root: Path) -> None:
    choice = choose_profile(settings_of(root), "prod", explicit=None, home=None)
    assert choice == ProfileChoice(path=None, reason="no profile found")
    assert load_profile(choice, settings_of(root)).connections == {}


def test_a_missing_named_profile_is_an_error_that_names_it(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"--profile gone\.yml: no such file"):
        choose_profile(settings_of(root), "dev", explicit="gone.yml", home=None)


@pytest.mark.parametrize("name", ["profiles-dev.yaml", "profiles-Dev.yml", "Profiles-dev.YAML"])
def test_a_profile_under_almost_the_right_name_is_not_passed_over(root: Path, name: str) -> None:
    (root / "profiles.yml").write_text("connections: {}\n")
    (root / name).write_text("connections: {}\n")
    with pytest.raises(ConfigError, match=name) as caught:
        choose_profile(settings_of(root), "dev", explicit=None, home=None)
    assert caught.value.hint == "rename it to profiles-dev.yml"


def test_a_dangling_link_does_not_fall_through_to_the_default(root: Path) -> None:
    (root / "profiles.yml").write_text("connections: {}\n")
    (root / "profiles-dev.yml").symlink_to(root / "gone.yml")
    settings = settings_of(root)
    choice = choose_profile(settings, "dev", explicit=None, home=None)
    with pytest.raises(ConfigError, match=r"profiles-dev\.yml: cannot be read"):
        load_profile(choice, settings)


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEEKNAL_HOME", str(tmp_path))
    assert seeknal_home() == tmp_path
    monkeypatch.delenv("SEEKNAL_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert seeknal_home() == tmp_path / ".seeknal"
    monkeypatch.delenv("HOME")
    assert seeknal_home() is None


# Names and prefixes


@pytest.mark.parametrize(
    "text",
    ["", "../x", "a;b", "1a", "-a", "a b", "a\n", "ä", "a/b", "x" * 40, "a.b", "Ⅷ", "prod\0"],
)
def test_names_outside_the_rule_are_refused_with_the_rule(root: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_environment_name(text, settings_of(root))
    assert "write a letter" in caught.value.hint


def test_names_are_made_lower_case(root: Path) -> None:
    settings = settings_of(root)
    assert parse_environment_name("Dev-Alice_2", settings) == "dev-alice_2"
    assert parse_environment_name("x" * 39, settings) == "x" * 39
    assert parse_environment_name(None, settings) == "prod"
    assert parse_environment_name("PROD", settings) == "prod"


def test_prod_is_refused_where_production_is_named_otherwise(root: Path) -> None:
    settings = settings_of(root, production="live")
    assert parse_environment_name(None, settings) == "live"
    with pytest.raises(ConfigError, match="not the name of production"):
        parse_environment_name("Prod", settings)


@pytest.mark.parametrize(
    ("name", "convention", "asked", "prefix"),
    [
        ("dev-a", True, None, "dev_a_"),
        ("dev", False, None, ""),
        ("dev", False, True, "dev_"),
        ("dev", True, False, ""),
        ("dev", True, "", ""),
        ("dev", True, "alice_", "alice_"),
        ("prod", False, True, ""),
        ("prod", False, "p_", "p_"),
    ],
)
def test_prefixes(
    root: Path, name: str, convention: bool, asked: str | bool | None, prefix: str
) -> None:
    profile = Profile(path=None, reason="", convention=convention, prefix=asked)
    environment = environment_for(settings_of(root), name, profile)
    assert environment.prefix == prefix
    assert environment.is_production is (name == "prod")


# Interpolation


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${PORT}", 5433),
        ('"${PORT}"', Filled("5433")),
        ("${NONE:5432}", 5432),
        ("${NONE:-5432}", 5432),
        ("${EMPTY:5432}", 5432),
        ("${EMPTY}", ""),
        ("${HOST}-${PORT}", "db-5433"),
        ("1${PORT}", "15433"),
        ("${NONE:}", ""),
        ("${YES}", True),
        ("a$$b", "a$b"),
        ("$${HOST}", "${HOST}"),
        ("a$b", "a$b"),
        ("$HOST", "$HOST"),
        ("${NASTY}", "a: [1, ${HOST}]\n$$"),
        ("${NONE:-http://x:1/y}", "http://x:1/y"),
    ],
)
def test_variables_are_filled_in(tmp_path: Path, written: str, value: object) -> None:
    variables = {
        "PORT": "5433",
        "HOST": "db",
        "EMPTY": "",
        "YES": "true",
        "NASTY": "a: [1, ${HOST}]\n$$",
    }
    profile = load(tmp_path, f"connections:\n  w:\n    type: x\n    o: {written}\n", variables)
    assert option(profile, "o") == value
    assert type(option(profile, "o")) is type(value)


def test_a_missing_variable_is_named_with_its_place_and_no_value(tmp_path: Path) -> None:
    text = "connections:\n  w:\n    type: x\n    password: ${HOST}-${GONE}\n"
    assert refusal(tmp_path, text, {"HOST": "hunter2"}) == [
        "profiles.yml:4:15: connections.w.password: environment variable GONE is not set; "
        "set it in the environment or in .env, or write ${GONE:default}"
    ]


@pytest.mark.parametrize("written", ["'${'", "'${}'", "'${1A}'", "'a${B-c}'", "'${A:${B}}'"])
def test_a_malformed_reference_is_refused(tmp_path: Path, written: str) -> None:
    text = f"connections:\n  w:\n    type: x\n    o: {written}\n"
    assert len(refusal(tmp_path, text)) == 1


def test_a_password_of_digits_stays_text(tmp_path: Path) -> None:
    text = "connections:\n  w:\n    type: x\n    password: ${PW}\n    port: ${P}\n"
    profile = load(tmp_path, text, {"PW": "0123", "P": "1"})
    assert option(profile, "password") == "0123"
    assert option(profile, "port") == 1


def test_a_number_in_quotes_may_come_from_a_variable(tmp_path: Path) -> None:
    """Inside braces a reference needs its quotes."""

    @attrs.frozen(kw_only=True)
    class Options:
        port: int
        user: str

    text = 'connections:\n  w: {type: x, port: "${P}", user: "${U}"}\n'
    profile = load(tmp_path, text, {"P": "6000", "U": "1234"})
    options = structure(profile.connections["w"].options, Options)
    assert (options.port, options.user) == (6000, "1234")


def test_secrets_of_the_file_are_redacted_from_then_on(tmp_path: Path) -> None:
    text = (
        "connections:\n  w:\n    type: x\n    password: opensesame1\n"
        "    s3.secret-access-key: opensesame2\n    credential: key:opensesame3\n"
        "    uri: pg://me:opensesame4@db/x\n    TOKEN: ${T}\n    host: plainhost\n"
    )
    load(tmp_path, text, {"T": "opensesame5"})
    shown = redact(" ".join(f"opensesame{n}" for n in range(1, 6)) + " plainhost")
    assert "opensesame" not in shown
    assert "plainhost" in shown


# Sections


def test_connections_have_canonical_types_and_places(tmp_path: Path) -> None:
    text = "connections:\n  w:\n    type: postgres\n    host: db\n    catalog: {uri: u}\n"
    spec = load(tmp_path, text).connections["w"]
    assert (spec.name, spec.type) == ("w", "postgresql")
    assert spec.options == {"host": "db", "catalog": {"uri": "u"}}
    assert str(spec.locations["host"]) == "profiles.yml:4:5"
    assert str(spec.locations["catalog.uri"]) == "profiles.yml:5:15"
    assert str(spec.locations[""]) == "profiles.yml:2:3"


def test_all_mistakes_of_a_profile_come_at_once(tmp_path: Path) -> None:
    text = """\
connections:
  a: {host: db}
  b: x
  c: {typ: postgresql}
  d: {type: 3}
source_default: {}
namespace: {prefix: "a-b", prefx: 1}
protected: maybe
materialization: {default_mode: apend, enabled: 1, catalog: x, foo: 1}
source_defaults: {postgres: {connection: nowhere}, postgresql: {}, iceberg: 1}
"""
    assert refusal(tmp_path, text) == [
        "profiles.yml:2:3: connections.a: 'type' is missing; write type: and a backend's type",
        "profiles.yml:3:3: connections.b: is a string, not a mapping; "
        "write type: ..., and what the type needs",
        "profiles.yml:4:7: connections.c.typ: unknown field; did you mean 'type'?",
        "profiles.yml:5:7: connections.d.type: is a number, not a type's name",
        "profiles.yml:6:1: source_default: unknown section; did you mean 'source_defaults'?",
        "profiles.yml:7:13: namespace.prefix: is not a prefix; "
        "write true, false, or letters, digits and '_', as in alice_",
        "profiles.yml:7:28: namespace.prefx: unknown field; did you mean 'prefix'?",
        "profiles.yml:8:1: protected: is a string, not true or false",
        "profiles.yml:9:19: materialization.default_mode: 'apend' is not one of full, append, "
        "upsert_by_key, incremental_by_time, insert_overwrite, overwrite, upsert; "
        "did you mean 'append'?",
        "profiles.yml:9:40: materialization.enabled: is a number, not true or false",
        "profiles.yml:9:52: materialization.catalog: is a string, not a mapping",
        "profiles.yml:9:64: materialization.foo: unknown field",
        "profiles.yml:10:30: source_defaults.postgres.connection: no connection 'nowhere'",
        "profiles.yml:10:52: source_defaults.postgresql: means the same type as 'postgres'",
        "profiles.yml:10:68: source_defaults.iceberg: is a number, not a mapping",
    ]


def test_source_defaults_are_kept_by_canonical_type(tmp_path: Path) -> None:
    text = "connections: {w: {type: x}}\nsource_defaults:\n  postgres: {connection: w, a: 1}\n"
    profile = load(tmp_path, text)
    assert profile.source_defaults == {"postgresql": {"connection": "w", "a": 1}}


def test_namespace_and_protection(tmp_path: Path) -> None:
    profile = load(tmp_path, "namespace: {prefix: alice_}\nprotected: true\n")
    assert (profile.prefix, profile.protected) == ("alice_", True)
    profile = load(tmp_path, "namespace: {prefix: false}\n")
    assert (profile.prefix, profile.protected) == (False, False)


def test_the_legacy_catalog_becomes_a_connection(tmp_path: Path) -> None:
    text = """\
materialization:
  enabled: true
  catalog:
    uri: ${URI}
    warehouse: s3://lake
    bearer_token: topsecrettoken
    verify_tls: false
    connection_timeout: 10
  default_mode: overwrite
  schema_evolution: {mode: safe}
"""
    profile = load(tmp_path, text, {"URI": "http://c"})
    assert profile.default_mode is Mode.FULL
    assert profile.catalog_connection == "materialization.catalog"
    spec = profile.connections["materialization.catalog"]
    assert spec.type == "iceberg"
    assert spec.options == {
        "warehouse": "s3://lake",
        "catalog": {
            "type": "rest",
            "uri": "http://c",
            "token": "topsecrettoken",
            "verify_tls": False,
        },
    }
    assert str(spec.locations["catalog.token"]) == "profiles.yml:6:5"
    assert str(spec.locations["warehouse"]) == "profiles.yml:5:5"
    assert [warning.path for warning in profile.warnings] == [
        "materialization.schema_evolution",
        "materialization.catalog.connection_timeout",
    ]


def test_a_legacy_catalog_with_a_warehouse_alone_stays_embedded(tmp_path: Path) -> None:
    profile = load(tmp_path, "materialization: {catalog: {warehouse: ./w}}\n")
    assert profile.connections["materialization.catalog"].options == {"warehouse": "./w"}


def test_sections_of_older_projects_are_warned_about_by_name(tmp_path: Path) -> None:
    text = "default: {target: dev, outputs: {}}\nstarrocks: {a: 1}\nconnections: {}\n"
    profile = load(tmp_path, text)
    assert [str(warning) for warning in profile.warnings] == [
        "profiles.yml:1:1: default: 'default' is of Seeknal 2.x and has no effect",
        "profiles.yml:2:1: starrocks: 'starrocks' is of Seeknal 2.x and has no effect",
    ]


@pytest.mark.ordinary_user
def test_a_profile_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yml"
    path.write_text("connections: {}\n")
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_profile(ProfileChoice(path=path, reason=""), settings_of(tmp_path), {})


def test_a_profile_that_is_a_link_to_itself_says_so(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yml"
    path.symlink_to(path)
    with pytest.raises(ConfigError, match="Too many levels of symbolic links"):
        load_profile(ProfileChoice(path=path, reason=""), settings_of(tmp_path), {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "a: 1\n---\nb: 1\n"])
def test_a_profile_that_is_no_mapping_is_one_mistake(tmp_path: Path, text: str) -> None:
    assert len(refusal(tmp_path, text)) == 1


def test_a_missing_variable_hides_no_other_mistake(tmp_path: Path) -> None:
    text = "connections:\n  w: {type: '${T}', password: '${PW}'}\nconections: {}\nprotected: 1\n"
    told = [line.split(":")[1] for line in refusal(tmp_path, text)]
    assert told == ["2", "2", "3", "4"]


def test_the_defaults_of_files_are_checked(tmp_path: Path) -> None:
    text = "source_defaults:\n  csv: {delimeter: ';'}\n"
    assert refusal(tmp_path, text) == [
        "profiles.yml:2:9: source_defaults.csv.delimeter: unknown field; did you mean 'delimiter'?"
    ]
