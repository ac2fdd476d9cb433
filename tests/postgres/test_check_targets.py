"""``check`` knows the columns of a node's output and the tables of all targets."""

from __future__ import annotations

from pathlib import Path

from support.cli import Cli

TARGET = "materializations:\n  - type: postgresql\n    connection: db\n"


def test_check_names_wrong_key_columns_and_tables_of_two_targets(tmp_path: Path) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: p\n")
    (tmp_path / "profiles.yml").write_text(
        "connections:\n  db: {type: postgresql, host: nowhere.invalid, database: d, user: u}\n"
    )
    (tmp_path / "seeknal").mkdir()
    for name, more in {
        "a": "    table: s.t\n    mode: upsert_by_key\n    unique_keys: [idd]\n",
        "b": "    table: s.t\n",
        "c": "    table: s.u\n    mode: incremental_by_time\n    time_column: dai\n",
    }.items():
        text = (
            f"kind: transform\nname: {name}\ntransform: SELECT 1 AS id, DATE '2024-01-01' AS day\n"
        )
        (tmp_path / "seeknal" / f"{name}.yml").write_text(text + TARGET + more)
    found = Cli(cwd=tmp_path)("check", code=2).err
    assert "transform.a.unique_keys: there is no column 'idd'; did you mean 'id'?" in found
    assert "transform.c.time_column: there is no column 'dai'; did you mean 'day'?" in found
    assert "seeknal/b.yml" in found
    assert "is a target of transform.a too" in found
