"""A catalog's server names the files of a table; none of them is one of this machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from seeknal_core.errors import BackendError
from seeknal_iceberg.connection.storage.object_store import TABLE_LOCATION, WatchedFileIO


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "file:{path}"])
def test_a_server_cannot_name_a_file_of_this_machine(tmp_path: Path, form: str) -> None:
    secret = tmp_path / "secret.parquet"
    secret.write_text("s3cret")
    location = form.format(path=secret)
    table = tmp_path / "warehouse" / "t"
    table.mkdir(parents=True)
    (table / "link").symlink_to(tmp_path)
    for place in ("s3://lake/t", "gs://lake/t", f"file://{table}", str(table)):
        io = WatchedFileIO({TABLE_LOCATION: place})
        for action in (io.new_input, io.new_output, io.delete):
            with pytest.raises(BackendError, match="names a file of this machine"):
                action(location)
    io = WatchedFileIO({TABLE_LOCATION: f"file://{table}"})
    for name in ("../../secret.parquet", "link/secret.parquet"):
        with pytest.raises(BackendError):
            io.new_input(f"file://{table}/{name}")
    assert secret.read_text() == "s3cret"


def test_a_local_table_has_its_files(tmp_path: Path) -> None:
    table = tmp_path / "t"
    table.mkdir()
    for place in (f"file://{table}", str(table)):
        io = WatchedFileIO({TABLE_LOCATION: place})
        with io.new_output(f"file://{table}/x y.txt").create(overwrite=True) as file:
            file.write(b"rows")
        with io.new_input(f"{table}/x y.txt").open() as found:
            assert found.read() == b"rows"
        io.delete(f"{table}/x y.txt")
