"""``seeknal plugins new``: which names it takes, where it writes, and what it says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from seeknal_core import __version__
from seeknal_core.cli.plugins.new_backend import NewBackend
from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.hooks import HOOK_API
from seeknal_core.plugins.host import PluginHost
from support.cli import Cli
from support.distributions import install


def named(name: str) -> NewBackend:
    return NewBackend.named(name, PluginHost())


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("x", ("x", "seeknal-x", "seeknal_x")),
        ("clickhouse", ("clickhouse", "seeknal-clickhouse", "seeknal_clickhouse")),
        ("my-store2", ("my_store2", "seeknal-my-store2", "seeknal_my_store2")),
        ("my_store2", ("my_store2", "seeknal-my-store2", "seeknal_my_store2")),
    ],
)
def test_all_names_follow_from_one(name: str, names: tuple[str, str, str]) -> None:
    new = named(name)
    assert (new.type, new.distribution, new.package) == names


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("ClickHouse", "clickhouse"),
        ("my store", "my_store"),
        ("2fast", "fast"),
        ("a__b", "a_b"),
        ("-x", "x"),
        ("x-", "x"),
        ("../x", "x"),
        ("größe", "gr_e"),
        ("", "my_store"),
        ("x\n", "x"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(name: str, better: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a backend") as raised:
        named(name)
    assert raised.value.hint == f"seeknal plugins new {better}"
    named(better)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("seeknal-clickhouse", "prefix that is added anyhow"),
        ("core", "seeknal-core is Seeknal itself"),
        ("parquet", "files that Seeknal itself reads"),
        ("iceberg", "of the distribution seeknal-iceberg"),
        ("postgres", "another word for the type 'postgresql'"),
        ("n" * 31, "more than 30 letters"),
    ],
)
def test_a_name_that_means_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    # Whatever is installed beside these tests.
    monkeypatch.setattr(PluginHost, "installed", lambda *_: ())
    with pytest.raises(ConfigError, match=words) as raised:
        named(name)
    assert raised.value.hint


@pytest.fixture
def seeknal(tmp_path: Path) -> Cli:
    return Cli(cwd=tmp_path, environ={"HOME": str(tmp_path / "home")}, warm=True)


def test_a_distribution_is_written_and_the_next_commands_are_told(
    seeknal: Cli, tmp_path: Path
) -> None:
    said = seeknal("plugins", "new", "my-store").out
    root = tmp_path / "seeknal-my-store"
    assert "Next: cd seeknal-my-store\n" in said
    assert 'pip install -e ".[test]"\n' in said and "pytest" in said and "tox run" in said
    assert files(root) == {
        ".github/workflows/tests.yml",
        ".gitignore",
        "README.md",
        "pyproject.toml",
        *(
            f"seeknal_my_store/{name}"
            for name in ("__init__.py", "connection.py", "plugin.py", "promotions.py")
        ),
        *(f"seeknal_my_store/{name}" for name in ("py.typed", "store.py", "writes.py")),
        "tests/test_my_store_backend.py",
        "tox.ini",
    }
    texts = [path.read_text("utf-8") for path in root.rglob("*") if path.is_file()]
    words = ("@api@", "@core@", "@distribution@", "@package@", "@type@")
    assert not [word for word in words if any(word in text for text in texts)]


def test_it_asks_for_the_core_and_the_hook_api_it_was_written_by(
    seeknal: Cli, tmp_path: Path
) -> None:
    seeknal("plugins", "new", "my-store")
    root = tmp_path / "seeknal-my-store"
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    major, minor = map(int, __version__.split(".")[:2])
    bounds = f">={major}.{minor},<{major}.{minor + 1}"
    assert f"seeknal-core{bounds}" in project["dependencies"]
    assert project["optional-dependencies"]["test"] == [f"seeknal-core[testing]{bounds}"]
    backends = project["entry-points"]["seeknal.backends"]
    assert backends == {"my_store": "seeknal_my_store.plugin"}
    plugin = (root / "seeknal_my_store" / "plugin.py").read_text("utf-8")
    assert f"SEEKNAL_HOOK_API = {HOOK_API}\n" in plugin


def test_another_folder_can_be_named(seeknal: Cli, tmp_path: Path) -> None:
    (tmp_path / "my things").mkdir()
    said = seeknal("plugins", "new", "x", "--dir", "my things").out
    assert "Next: cd 'my things'\n" in said
    assert (tmp_path / "my things" / "pyproject.toml").exists()
    assert not (tmp_path / "seeknal-x").exists()


@pytest.mark.parametrize("taken", ["folder", "file"])
def test_what_exists_is_left_alone(seeknal: Cli, tmp_path: Path, taken: str) -> None:
    there = tmp_path / "seeknal-x"
    if taken == "folder":
        there.mkdir()
        there = there / "notes.txt"
    there.write_text("mine", "utf-8")
    failed = seeknal("plugins", "new", "x", code=2)
    assert "seeknal-x exists already and is not an empty folder" in failed.err
    assert "seeknal plugins new x --dir DIR" in failed.err
    assert files(tmp_path) == {there.relative_to(tmp_path).as_posix()}


def test_a_folder_that_cannot_be_written_is_told(seeknal: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    failed = seeknal("plugins", "new", "x", "--dir", "file/below", code=1)
    assert "cannot write" in failed.err and "Not a directory" in failed.err


def test_the_type_of_an_installed_backend_is_refused(seeknal: Cli, tmp_path: Path) -> None:
    install(
        tmp_path / "site",
        distribution="other-store",
        module="other_store",
        source="raise ImportError('not needed')",
        entry_points={"seeknal.backends": {"my_store": "other_store"}},
        version="2.5",
    )
    failed = seeknal("plugins", "new", "my-store", code=2, PYTHONPATH=str(tmp_path / "site"))
    assert "'my_store' is the type of an installed backend, other-store 2.5" in failed.err
    assert "seeknal plugins new my_my_store" in failed.err
    assert not (tmp_path / "seeknal-my-store").exists()
