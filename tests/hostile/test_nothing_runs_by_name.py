"""Texts of a project load no code: neither YAML tags nor the words that name a backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write

TAGS = (
    "!!python/object/apply:os.system ['touch ran']",
    "!!python/name:os.system",
    "!!python/object/new:subprocess.Popen [['touch', 'ran']]",
    "!!python/module:os",
    "!evil x",
)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("file", ["seeknal_project.yml", "profiles.yml", "seeknal/a.yml"])
def test_a_yaml_tag_makes_no_object(seeknal: Cli, project: Path, tag: str, file: str) -> None:
    write(project, {file: f"name: {tag}\n"})
    seeknal("run", code=2)
    assert not (project / "ran").exists()


@pytest.mark.parametrize("word", ["os", "os:system", "subprocess.Popen", "./evil", "evil"])
def test_a_backend_s_name_is_looked_up_among_those_installed(
    seeknal: Cli, project: Path, word: str
) -> None:
    write(project, {"evil.py": "open('ran', 'w')\n"})
    write(project, {"seeknal/a.yml": f"kind: source\nname: a\nsource: {word}\ntable: a\n"})
    seeknal("run", code=2)
    assert not (project / "ran").exists()
