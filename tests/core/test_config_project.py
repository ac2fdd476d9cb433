"""The project's root, its file, its environment file, and its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.types import redact
from seeknal_core.project import find_root, load_env_file, load_project, load_settings
from seeknal_core.project.documents import find_files
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.specs import EngineSettings

SOURCE = "kind: source\nname: {}\nsource: csv\ntable: a.csv\n"


def settings_refusal(root: Path, text: str) -> list[str]:
    (root / "seeknal_project.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(root)
    return [str(problem) for problem in caught.value.problems]


def test_the_root_is_found_from_below(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below) == tmp_path
    assert find_root(tmp_path) == tmp_path


def test_no_project_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no seeknal_project\.yml in") as caught:
        find_root(tmp_path)
    assert "seeknal init" in caught.value.hint
    with pytest.raises(ConfigError, match="is not a folder"):
        find_root(tmp_path / "gone")


def test_a_project_file_with_everything(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text(
        "name: shop\nversion: 1.0.0\nconfig-version: 1\ndescription: d\nproduction: Live\n"
        "engine: {name: duckdb, memory_limit: 2GB, threads: 2, temp_directory: tmp}\n"
        "environments: {ttl: 3d, promote: rebuild}\n"
    )
    settings, warnings = load_settings(tmp_path)
    assert (settings.name, settings.version, settings.description) == ("shop", "1.0.0", "d")
    assert (settings.root, settings.production) == (str(tmp_path), "live")
    assert settings.engine == EngineSettings(memory_limit="2GB", threads=2, temp_directory="tmp")
    assert (settings.environment_ttl, settings.promote) == (timedelta(days=3), "rebuild")
    assert warnings == ()


def test_a_project_file_of_2x_loads_with_warnings(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text(
        "name: shop\nversion: 1.0\nprofile: default\nconfig-version: 1\nstate_backend: file\n"
    )
    settings, warnings = load_settings(tmp_path)
    assert (settings.version, settings.engine.name) == ("1.0", "duckdb")
    assert [warning.path for warning in warnings] == ["profile", "state_backend"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("producton: x", "producton: unknown field; did you mean 'production'?"),
        ("production: a b", "production: 'a b' is not an environment's name; write a letter"),
        ("engine: {threads: 0}", "engine.threads: is less than 1"),
        ("engine: {memory: 1}", "engine.memory: unknown field"),
        ("engine: duckdbb", "engine: 'duckdbb' is not one of duckdb; did you mean 'duckdb'?"),
        (
            "engine: {name: spark}",
            "engine.name: 'spark' is not one of duckdb; write engine: duckdb",
        ),
        (
            "engine: {memory_limit: 3XB}",
            "engine.memory_limit: '3XB' is not a size; write e.g. 4GB or 512MiB",
        ),
        ("engine: 3", "engine: is a number, not a string or a mapping"),
        ("environments: {ttl: 3}", "environments.ttl: is a number, not a duration"),
        ("environments: {ttl: 0d}", "environments.ttl: is not longer than nothing"),
        ("environments: {promote: maybe}", "environments.promote: 'maybe' is not one of auto,"),
    ],
)
def test_mistakes_in_the_project_file(tmp_path: Path, line: str, message: str) -> None:
    (found,) = settings_refusal(tmp_path, f"name: shop\n{line}\n")
    place, _, text = found.partition(": ")
    assert place.startswith("seeknal_project.yml:2:")
    assert text.startswith(message)


@pytest.mark.parametrize("name", ["''", "' '", '"a\\nb"'])
def test_a_project_needs_a_name_of_one_line(tmp_path: Path, name: str) -> None:
    assert settings_refusal(tmp_path, f"name: {name}\n") == [
        "seeknal_project.yml:1:1: name: is not a project's name; write one line of text"
    ]


def test_the_env_file_is_loaded_and_real_variables_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SK_ONE", "SK_TWO", "SK_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SK_ONE", "real")
    text = "SK_ONE=file\nexport SK_TWO='a b'\n# c\nSK_PASSWORD=openbarley\n"
    (tmp_path / ".env").write_text(text)
    load_env_file(tmp_path)
    assert (os.environ["SK_ONE"], os.environ["SK_TWO"]) == ("real", "a b")
    assert redact("openbarley") == "***"
    monkeypatch.delenv("SK_TWO")
    monkeypatch.delenv("SK_PASSWORD")


def test_an_absent_or_empty_env_file_is_fine(tmp_path: Path) -> None:
    load_env_file(tmp_path)
    (tmp_path / ".env").write_text("")
    load_env_file(tmp_path)


def test_a_line_of_the_env_file_that_is_no_assignment_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nhunter2 hunter3\n")
    with pytest.raises(ConfigError) as caught:
        load_env_file(tmp_path)
    assert str(caught.value) == ".env:2: is no assignment; write NAME=value"


def test_links_that_lead_back_do_not_hang(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    folder = tmp_path / "seeknal" / "a"
    folder.mkdir(parents=True)
    (folder / "s.yml").write_text(SOURCE.format("s"))
    (folder / "up").symlink_to(tmp_path / "seeknal")
    (folder / "self").symlink_to(folder / "self")
    assert [node.id for node in load_project(tmp_path).nodes] == ["source.s"]


def test_a_linked_folder_belongs_to_the_project(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    (tmp_path / "seeknal").mkdir()
    elsewhere = tmp_path / "shared"
    elsewhere.mkdir()
    (elsewhere / "s.yml").write_text(SOURCE.format("s"))
    (tmp_path / "seeknal" / "linked").symlink_to(elsewhere)
    (node,) = load_project(tmp_path).nodes
    assert node.location.file == "seeknal/linked/s.yml"


def test_hidden_files_and_folders_hold_no_nodes(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    hidden = tmp_path / "seeknal" / ".git"
    hidden.mkdir(parents=True)
    (hidden / "s.yml").write_text("broken: [")
    (tmp_path / "seeknal" / ".s.yml").write_text("broken: [")
    assert load_project(tmp_path).nodes == ()


def test_python_files_that_hold_no_nodes_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "seeknal" / "common").mkdir(parents=True)
    for name in ("_helper.py", "__init__.py", "common/lib.py", "nodes.py"):
        (tmp_path / "seeknal" / name).write_text("")
    assert find_files(tmp_path, Collector()).python == (tmp_path / "seeknal" / "nodes.py",)


def test_python_nodes_belong_to_the_project(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    (tmp_path / "seeknal").mkdir()
    (tmp_path / "seeknal" / "s.yml").write_text(SOURCE.format("s"))
    head = "from seeknal_core.pipeline import transform\n"
    code = '@transform(name="{}", inputs=["source.s"])\ndef f(ctx):\n    return None\n'
    (tmp_path / "seeknal" / "p.py").write_text(head + code.format("clean"))
    assert [node.id for node in load_project(tmp_path).nodes] == ["source.s", "transform.clean"]
    document = "kind: transform\nname: clean\ntransform: SELECT 1\n"
    (tmp_path / "seeknal" / "t.yml").write_text(document)
    with pytest.raises(ConfigError, match=r"'transform\.clean' is also defined in seeknal/t\.yml"):
        load_project(tmp_path)


def test_three_hundred_nodes_load_fast(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    (tmp_path / "seeknal").mkdir()
    for number in range(300):
        (tmp_path / "seeknal" / f"n{number}.yml").write_text(
            f"kind: transform\nname: n{number}\ntags: [a]\ntransform: |\n  SELECT 1\n"
            "audits:\n- {type: not_null, columns: [a]}\n"
            f"materialization: {{table: a.n{number}, mode: upsert, unique_keys: [a]}}\n"
        )
    script = (
        "import sys, time; from pathlib import Path; from seeknal_core.project import load_project;"
        "start = time.process_time(); count = len(load_project(Path(sys.argv[1])).nodes);"
        "print(count, time.process_time() - start)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, seconds = done.stdout.split()
    assert count == "300"
    # Measured: 0.2 s; the bound tells a pure-Python parser (3 s) from libyaml.
    assert float(seconds) < 1.5


def test_importing_the_configuration_loads_nothing_heavy() -> None:
    script = (
        "import sys, seeknal_core.project;"
        "print([name for name in ('cattrs', 'duckdb', 'pyarrow', 'sqlglot', 'rich', 'stevedore',"
        " 'dotenv') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
