from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.contract.errors import ConfigError, EngineError
from seeknal_core.engine.files.digests import FileDigests
from seeknal_core.engine.files.find import resolve_files
from seeknal_core.project.places import Places
from seeknal_core.project.specs import SourceNode
from support.engines import HERE, Lab, file_source, open_lab, rows

if TYPE_CHECKING:
    from support.lake import LakeServer


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def source(table: str | None, **params: object) -> SourceNode:
    return SourceNode(name="s", location=HERE, type="csv", table=table, params=params)


# --- which files


def test_a_glob_gives_files_in_the_order_of_their_labels(tmp_path: Path) -> None:
    for name in ("data/b.csv", "data/a/x.csv", "data/a.txt", "data/a/deep/y.csv", "data/.hid.csv"):
        write(tmp_path / name, "a\n")
    (tmp_path / "data/folder.csv").mkdir()
    found = resolve_files(source("data/**/*.csv"), tmp_path, tmp_path)
    assert found.labels == ("data/a/deep/y.csv", "data/a/x.csv", "data/b.csv")
    assert found.files == tuple(tmp_path / label for label in found.labels)


def test_a_path_may_be_absolute_or_stand_in_the_params(tmp_path: Path) -> None:
    inside = write(tmp_path / "p" / "in.csv", "a\n")
    outside = write(tmp_path / "out.csv", "a\n")
    root = tmp_path / "p"
    assert resolve_files(source(str(inside)), root, root).labels == ("in.csv",)
    places = Places.of(root, [str(outside)])
    for written in (str(outside), "../out.csv"):
        found = resolve_files(source(written), root, root, places=places)
        assert found.labels == (outside.as_posix(),)
    assert resolve_files(source(None, path="in.csv"), root, root).labels == ("in.csv",)


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path: Path) -> None:
    write(tmp_path / "we[i]rd*.csv", "a\n")
    assert resolve_files(source("we[i]rd*.csv"), tmp_path, tmp_path).labels == ("we[i]rd*.csv",)


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "data/orders.csv", "a\n")
    with pytest.raises(EngineError) as caught:
        resolve_files(source("data/ordres.csv"), tmp_path, tmp_path)
    assert caught.value.message == "source.s: no file matches data/ordres.csv"
    assert caught.value.hint == "did you mean 'data/orders.csv'?"
    with pytest.raises(EngineError) as caught:
        resolve_files(source("elsewhere/*.csv"), tmp_path, tmp_path)
    assert "project root" in caught.value.hint or "orders" in caught.value.hint


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(EngineError) as caught:
        resolve_files(source("data/"), tmp_path, tmp_path)
    assert caught.value.hint == "write data/*.csv"
    with pytest.raises(EngineError, match="no file is named"):
        resolve_files(source(None), tmp_path, tmp_path)


# --- digests


@pytest.mark.parametrize(
    ("names", "glob"),
    [
        (["h/day=1/a.csv", "h/day=2/b.csv", "h/_SUCCESS"], "h/day=*/*.csv"),
        (["h/y=1/m=2/a.csv.gz"], "h/y=*/m=*/*.csv.gz"),
        (["h/2024/x=1/a.csv"], "h/**/*.csv"),
        (["h/.hidden/a.csv", "h/b.csv"], "h/*.csv"),
        (["h/part-0"], "h/*.csv"),
    ],
)
def test_a_folder_is_refused_with_the_glob_of_its_files(
    tmp_path: Path, names: list[str], glob: str
) -> None:
    for name in names:
        write(tmp_path / name, "a\n1\n")
    with pytest.raises(EngineError) as caught:
        resolve_files(source("h"), tmp_path, tmp_path)
    assert caught.value.hint == f"write {glob}"
    if names[0].endswith((".csv", ".gz")):
        assert resolve_files(source(glob), tmp_path, tmp_path).files


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("HTTPS://host/a.csv", "write https:// in lower case"),
        ("S3://bucket/a.csv", "write s3:// in lower case"),
        ("ftp://host/a.csv", "write a path, s3://bucket/key or https://host/path"),
        ("https:/host/a.csv", "write the whole address: https://host/path"),
        ("www.example.com/a.csv", "write the whole address: https://host/path"),
        ("s3:/bucket/a.csv", "write the whole address: s3://bucket/key"),
    ],
)
def test_an_address_is_not_called_relative(tmp_path: Path, written: str, hint: str) -> None:
    with pytest.raises(EngineError) as caught:
        resolve_files(source(written), tmp_path, tmp_path)
    assert caught.value.hint == hint


def test_what_is_no_file_is_named_as_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    os.symlink("gone.csv", tmp_path / "link.csv")
    with pytest.raises(EngineError, match=r"s: pipe\.csv: it is a pipe, not a file"):
        resolve_files(source("pipe.csv"), tmp_path, tmp_path)
    with pytest.raises(EngineError, match=r"s: link\.csv is a link to gone\.csv, which is missing"):
        resolve_files(source("link.csv"), tmp_path, tmp_path)


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "one")
    cache = tmp_path / "state" / "cache.json"
    digests = FileDigests(cache)
    first = digests.digest(path)
    # The time of the last change of the inode is now, so nothing is remembered yet.
    digests.save()
    assert not cache.exists()
    write(path, "two")
    assert digests.digest(path) != first


def test_an_old_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", "one")
    cache = tmp_path / "cache.json"
    later = os.stat(path).st_ctime_ns + 3_000_000_000
    monkeypatch.setattr("seeknal_core.engine.files.digests.time.time_ns", lambda: later)
    digests = FileDigests(cache)
    first = digests.digest(path)
    digests.save()
    again = FileDigests(cache)
    monkeypatch.setattr("seeknal_core.engine.files.digests._sha256", lambda *_: "read again")
    assert again.digest(path) == first
    write(path, "six")  # the same size and time, another time of change
    assert again.digest(path) == "read again"


def test_a_cache_that_cannot_be_read_is_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "one")
    cache = write(tmp_path / "cache.json", '{"version": 1, "files": {"x": 5}}')
    assert len(FileDigests(cache).digest(path)) == 64
    with pytest.raises(EngineError, match="No such file"):
        FileDigests(cache).digest(tmp_path / "none.csv")


# --- reading


def test_csv_columns_are_read_as_declared(lab: Lab) -> None:
    path = write(
        lab.root / "a.csv",
        "i,f,s,b,d,t,m,Other\n1,2,007,true,2024-02-29,2024-01-01 10:00:00,1.25,9\n,,,,,,,\n",
    )
    kinds = {
        "i": "integer",
        "F": "float",
        "s": "string",
        "b": "boolean",
        "d": "date",
        "t": "datetime",
        "m": "decimal",
        "absent": "integer",
    }
    made = lab.files(file_source("csv", kinds), path)
    assert made.schema == pa.schema(
        [
            ("i", pa.int64()),
            ("f", pa.float64()),
            ("s", pa.string()),
            ("b", pa.bool_()),
            ("d", pa.date32()),
            ("t", pa.timestamp("us")),
            ("m", pa.decimal128(38, 9)),
            ("Other", pa.int64()),
        ]
    )
    assert list(rows(made)[0].values()) == [
        1,
        2.0,
        "007",
        True,
        date(2024, 2, 29),
        datetime(2024, 1, 1, 10),  # noqa: DTZ001 - a column without zone
        Decimal("1.25"),
        9,
    ]
    assert set(rows(made)[1].values()) == {None}


def test_csv_params_are_used(lab: Lab) -> None:
    path = write(lab.root / "a.csv", "# made by\n1;x\n2;y\n")
    made = lab.files(file_source("csv", delimiter=";", header=False, skip=1), path)
    assert [tuple(row.values()) for row in rows(made)] == [(1, "x"), (2, "y")]
    made = lab.files(file_source("csv", delim=";", header=False, skip=1, path="a.csv"), path)
    assert made.row_count == 2


def test_several_files_are_one_table_matched_by_name(lab: Lab) -> None:
    one = write(lab.root / "1.csv", "a,b\n1,x\n")
    two = write(lab.root / "2.csv", "b,a\ny,2\n")
    assert rows(lab.files(file_source("csv"), one, two)) == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_json_and_json_lines_are_read_with_declared_types(lab: Lab) -> None:
    array = write(lab.root / "a.json", '[{"a": 1, "n": {"k": [1]}}, {"a": 2, "n": null}]')
    lines = write(lab.root / "a.jsonl", '{"a": 1, "n": "x"}\n{"a": 2, "n": "y"}\n')
    made = lab.files(file_source("json", {"a": "string"}), array)
    assert [row["a"] for row in rows(made)] == ["1", "2"]
    assert rows(made)[0]["n"] == {"k": [1]}
    made = lab.files(file_source("jsonl", {"a": "float"}), lines)
    assert [row["a"] for row in rows(made)] == [1.0, 2.0]


def test_parquet_is_read_and_stored_in_our_form(lab: Lab) -> None:
    table = pa.table({"d": pa.array(["x", "x"]).dictionary_encode(), "i": [1, 2]})
    pq.write_table(table, lab.root / "a.parquet")
    made = lab.files(file_source("parquet"), lab.root / "a.parquet")
    assert made.schema == pa.schema([("d", pa.string()), ("i", pa.int64())])


def test_a_value_that_does_not_fit_is_told_by_file_line_and_column(lab: Lab) -> None:
    path = write(lab.root / "a.csv", "a,b\n1,2\nx,3\n")
    with pytest.raises(EngineError) as caught:
        lab.files(file_source("csv", {"a": "integer"}), path)
    message = caught.value.message
    assert message.startswith("source.s: a.csv, line 3: ")
    assert "column 'a': 'x' is no integer" in message
    assert str(lab.root) not in message
    assert len(message) < 400


def test_a_broken_file_is_told_by_its_name(lab: Lab) -> None:
    broken = write(lab.root / "a.json", '[{"a": 1}, {"a":}]')
    with pytest.raises(EngineError, match=r"source\.s: a\.json, line 1: "):
        lab.files(file_source("json"), broken)
    broken = write(lab.root / "a.parquet", "this is no parquet file, truly")
    with pytest.raises(EngineError, match=r"source\.s: .*a\.parquet"):
        lab.files(file_source("parquet"), broken)


def test_unknown_and_wrong_params_are_told_together_with_the_place(lab: Lab) -> None:
    with pytest.raises(ConfigError) as caught:
        lab.files(file_source("csv", delimter=";", skip="1", header=1))
    texts = [str(problem) for problem in caught.value.problems]
    assert texts[-1] == (
        "seeknal/node.yml:3:1: source.s.params.delimter: unknown field; did you mean 'delimiter'?"
    )
    assert any(text.endswith("params.skip: is a string, not a whole number") for text in texts)
    assert any(text.endswith("params.header: is a number, not true or false") for text in texts)


def test_a_file_that_changes_while_it_is_read_is_read_again_and_then_given_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(lab.root / "a.csv", "a\n1\n")
    from seeknal_core.engine.sources import load as read

    store = read._READERS["csv"]
    changes = [1]

    def changed(*args: object) -> object:
        result = store(*args)  # type: ignore[arg-type]
        if changes:
            path.write_text(f"a\n{changes.pop() + 1}\n")
        return result

    monkeypatch.setattr(read, "_READERS", {"csv": changed})
    assert rows(lab.files(file_source("csv"), path)) == [{"a": 2}]
    changes[:] = [5, 6, 7]
    with pytest.raises(EngineError, match="changed each time"):
        lab.files(file_source("csv"), path)


def test_files_larger_than_the_disk_are_not_begun(lab: Lab) -> None:
    path = lab.root / "huge.parquet"
    with path.open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(EngineError, match="GB are free"):
        lab.files(file_source("parquet"), path)


def test_files_on_s3_are_downloaded_and_globbed(
    lake: LakeServer, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = lake.catalog_options()
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(options["s3.endpoint"]))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(options["s3.access-key-id"]))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(options["s3.secret-access-key"]))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    from seeknal_core.engine.files.s3 import _file_system

    system = _file_system()
    for name in ("raw/2.csv", "raw/1.csv", "raw/deep/3.csv", "raw/no.txt"):
        with system.open_output_stream(f"lake/{name}") as stream:
            stream.write(f"a\n{name[-5]}\n".encode())
    found = resolve_files(source("s3://lake/raw/*.csv"), lab.root, lab.root / "scratch")
    assert found.labels == ("s3://lake/raw/1.csv", "s3://lake/raw/2.csv")
    assert rows(lab.files(file_source("csv"), *found.files)) == [{"a": 1}, {"a": 2}]
    deep = resolve_files(source("s3://lake/raw/**/*.csv"), lab.root, lab.root / "scratch")
    assert len(deep.labels) == 3
    with pytest.raises(EngineError, match="no file matches s3://lake/none"):
        resolve_files(source("s3://lake/none.csv"), lab.root, lab.root / "scratch")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(EngineError) as caught:
        resolve_files(source("s3://lake/raw/1.csv"), lab.root, lab.root / "scratch")
    assert "AWS_" in caught.value.hint
    assert "not-the-secret" not in caught.value.message


def test_sources_are_read_by_several_threads_at_once(lab: Lab) -> None:
    path = write(lab.root / "a.csv", "a\n1\n")
    counts: list[int] = []

    def read(n: int) -> None:
        counts.append(lab.files(attrs.evolve(file_source("csv"), name=f"s{n}"), path).row_count)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 4


@pytest.mark.parametrize(
    ("text", "columns", "found"),
    [
        ("a,b\n1,x\n", ["a", "b"], [(1, "x")]),
        ("a;b\n1;x,y\n", ["a", "b"], [(1, "x,y")]),
        ("a\tb\n1\tx\n", ["a", "b"], [(1, "x")]),
        ("a\n1\n2\n", ["a"], [(1,), (2,)]),
        ('"a;1",b\n1,x\n', ["a;1", "b"], [(1, "x")]),
        ("a,b\nx,y\n", ["a", "b"], [("x", "y")]),
        ('a,b\n1,"line one\nline ""two"""\n', ["a", "b"], [(1, 'line one\nline "two"')]),
    ],
)
def test_the_first_line_of_a_csv_decides_its_form(
    lab: Lab, text: str, columns: list[str], found: list[tuple[object, ...]]
) -> None:
    snapshot = lab.files(file_source("csv"), write(lab.root / "f.csv", text))
    assert snapshot.schema.names == columns
    assert [tuple(row.values()) for row in rows(snapshot)] == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2,3\n4\n", "line 2: 3 columns, where the header has 2"),
        ("a,b\n1,2\n4\n", "line 3: 1 column, where the header has 2"),
        ('a,b\n1,"x\n2,y\n', "line 2: a quote is not closed"),
        ("", "is empty"),
    ],
)
def test_no_line_of_a_csv_is_dropped_in_silence(lab: Lab, text: str, words: str) -> None:
    path = write(lab.root / "data" / "f.csv", text)
    with pytest.raises(EngineError, match=rf"data/f\.csv.*{words}"):
        lab.files(attrs.evolve(file_source("csv"), table="data/f.csv"), path)
