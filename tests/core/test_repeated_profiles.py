"""A printed command names the profile again that was named for this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from seeknal_core.workspace.again import with_profiles
from support.cli import Cli, write

BOTH = {"prod": "my p.yml", "dev": "d.yml"}


@pytest.mark.parametrize(
    ("hint", "completed"),
    [
        ("seeknal run", "seeknal run --profile 'my p.yml'"),
        ("seeknal run --env dev writes it", "seeknal run --env dev --profile d.yml writes it"),
        ("seeknal run --env dev --profile x", "seeknal run --env dev --profile x"),
        ("seeknal run --env other", "seeknal run --env other"),
        ("seeknal running; seeknal env list", "seeknal running; seeknal env list"),
        (
            "seeknal env plan dev && seeknal env apply dev, then: seeknal env promote dev prod --force",
            "seeknal env plan dev --profile d.yml && seeknal env apply dev --profile d.yml, then: "
            "seeknal env promote dev prod --profile 'my p.yml' --source-profile d.yml --force",
        ),
        (
            "seeknal env promote dev (or seeknal env rollback prod --abort=keep)",
            "seeknal env promote dev --profile 'my p.yml' --source-profile d.yml "
            "(or seeknal env rollback prod --profile 'my p.yml' --abort=keep)",
        ),
        ("seeknal state recover --env dev", "seeknal state recover --env dev --profile d.yml"),
        ("seeknal check --connections", "seeknal check --profile 'my p.yml' --connections"),
    ],
)
def test_profiles_are_added_where_a_command_lacks_them(hint: str, completed: str) -> None:
    assert with_profiles(hint, BOTH, "prod") == completed
    assert with_profiles(completed, BOTH, "prod") == completed
    assert with_profiles(hint, {}, "prod") == hint


def test_a_promotion_that_is_refused_repeats_both_profiles(seeknal: Cli, project: Path) -> None:
    profile = (project / "profiles.yml").read_text()
    write(project, {"al.yml": f"{profile}namespace: {{prefix: al_}}\n", "main.yml": profile})
    both = ("--profile", "main.yml", "--source-profile", "al.yml")
    seeknal("run", "--profile", "main.yml")
    seeknal("plan", "dev", "--profile", "al.yml")
    seeknal("env", "apply", "dev", "--profile", "al.yml")
    write(project, {"seeknal/big.yml": "kind: transform\nname: big\ntransform: SELECT 1 AS a\n"})
    said = seeknal("env", "promote", "dev", *both, code=3).err
    again = "seeknal env plan dev --profile al.yml && seeknal env apply dev --profile al.yml\n"
    assert said.endswith(f"Next: {again}")
    seeknal("plan", "dev", "--profile", "al.yml")
    seeknal("env", "apply", "dev", "--profile", "al.yml")
    said = seeknal("env", "promote", "dev", "--dry-run", *both).out
    assert said.endswith(
        "Next: seeknal env promote dev prod --profile main.yml --source-profile al.yml\n"
    )
    said = seeknal("env", "promote", "dev", "--resume", *both, code=2).err
    assert "Next: seeknal env promote dev --profile main.yml --source-profile al.yml\n" in said
    document = seeknal("env", "promote", "dev", "--resume", "--json", *both, code=2).json()
    assert "--source-profile al.yml" in document["error"]["hint"]
