"""Random tables, written by Python's csv module in random dialects and read back.

`SEEKNAL_RANDOM_TABLES` is the number of tables (40 in the default run), `SEEKNAL_RANDOM_SEED`
the first one's seed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import string
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.project.formats import declared
from support.engines import Lab, file_source, open_lab, rows

_TABLES = int(os.environ.get("SEEKNAL_RANDOM_TABLES", "40"))
_SEED = int(os.environ.get("SEEKNAL_RANDOM_SEED", "1"))
_LETTERS = string.ascii_letters + " éß漢\U0001f600'\"\\;,|\t#-_.0%\n"
_ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-8")

Make = Callable[[random.Random], tuple[str, object]]


def _text(draw: random.Random) -> tuple[str, object]:
    value = "".join(draw.choices(_LETTERS, k=draw.choice([0, 1, 3, 8, 40])))
    return value, value


def _integer(draw: random.Random) -> tuple[str, object]:
    value = draw.choice([0, -1, 2**63 - 1, -(2**63), draw.randint(-(10**6), 10**6)])
    return draw.choice(["{}", "{:+d}", " {}", "{:05d}"]).format(value), value


def _float(draw: random.Random) -> tuple[str, object]:
    value = draw.choice(
        [0.0, -0.0, 1e300, 5e-324, math.inf, draw.random(), draw.uniform(-1e9, 1e9), 0.1 + 0.2]
    )
    form = draw.choice([repr, "{:.16e}".format, "{:.17g}".format])
    return form(value), value


def _decimal(draw: random.Random) -> tuple[str, object]:
    value = Decimal(draw.randint(-(10**20), 10**20)).scaleb(-draw.randint(0, 9))
    return f"{value:f}", value


def _boolean(draw: random.Random) -> tuple[str, object]:
    word = draw.choice(["true", "false", "TRUE", "f", "1", "no"])
    return word, word in ("true", "TRUE", "1")


def _date(draw: random.Random) -> tuple[str, object]:
    value = date.fromordinal(draw.randint(1, date.max.toordinal()))
    return value.isoformat(), value


def _stamp(draw: random.Random) -> datetime:
    start = datetime(1, 1, 3)  # noqa: DTZ001 - without zone, as the column is
    value = start + timedelta(microseconds=draw.randint(0, 315_000_000_000_000_000))
    return draw.choice([value, value.replace(microsecond=0)])


def _timestamp(draw: random.Random) -> tuple[str, object]:
    value = _stamp(draw)
    return value.isoformat(sep=draw.choice(" T")), value


def _moment(draw: random.Random) -> tuple[str, object]:
    zone = timezone(timedelta(minutes=draw.choice([0, 60, -210, 330, 840])))
    value = _stamp(draw).replace(tzinfo=zone)
    return value.isoformat(sep=draw.choice(" T")), value.astimezone(UTC)


def _time(draw: random.Random) -> tuple[str, object]:
    value = time(draw.randint(0, 23), draw.randint(0, 59), draw.randint(0, 59), draw.randint(0, 9))
    return value.isoformat(), value


def _uuid(draw: random.Random) -> tuple[str, object]:
    value = uuid.UUID(int=draw.getrandbits(128))
    return draw.choice([str(value), str(value).upper()]), value


def _list(draw: random.Random) -> tuple[str, object]:
    value = [
        draw.choice([None, draw.randint(-(2**63), 2**63 - 1)]) for _ in range(draw.randint(0, 4))
    ]
    return json.dumps(value), value


def _struct(draw: random.Random) -> tuple[str, object]:
    value = {"a": _text(draw)[1], "b": draw.choice([None, [True, False]])}
    return json.dumps(value, ensure_ascii=draw.random() < 0.5), value


_KINDS: dict[str, Make] = {
    "varchar": _text,
    "integer": _integer,
    "double": _float,
    "decimal(38,9)": _decimal,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _moment,
    "time": _time,
    "uuid": _uuid,
    "bigint[]": _list,
    "struct(a varchar, b boolean[])": _struct,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("random")) as opened:
        yield opened


def _write(
    draw: random.Random, names: list[str], table: list[list[str | None]]
) -> tuple[bytes, dict[str, object]]:
    """Write a table in a random dialect; return the bytes and the params to read it."""
    delimiter, quote, end = draw.choice(",;\t|"), draw.choice("\"'"), draw.choice(["\n", "\r\n"])
    null = draw.choice(["", "NULL", "\\N"])
    # Where the empty text is NULL, an empty value must be quoted to be one.
    sparing = bool(null) and draw.random() < 0.5
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter=delimiter,
        quotechar=quote,
        lineterminator=end,
        quoting=csv.QUOTE_MINIMAL if sparing else csv.QUOTE_ALL,
    )
    writer.writerow(names)
    for row in table:
        # csv.writer of Python 3.11 knows no NULL: a mark that is unquoted afterwards.
        writer.writerow([_MARK if value is None else value for value in row])
    text = out.getvalue().replace(_MARK if sparing else f"{quote}{_MARK}{quote}", null)
    params: dict[str, object] = {"delimiter": delimiter}
    if quote != '"':
        params["quote"] = quote
    if null:
        params["null"] = [null]
    if draw.random() < 0.3:
        text = f"made by {quote}a program{end}" + text
        params["skip"] = 1
    encoding = draw.choice(_ENCODINGS)
    if encoding not in ("utf-8", "utf-8-sig", "utf-16"):
        params["encoding"] = encoding
    return text.encode(encoding), params


_MARK = "\x02NULL\x02"


def _same(found: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(found, float):
        return repr(found) == repr(wanted)
    return found == wanted


@pytest.mark.parametrize("seed", range(_SEED, _SEED + _TABLES))
def test_random_tables_are_read_as_python_reads_them(lab: Lab, seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 8)
    kinds = [draw.choice(list(_KINDS)) for _ in range(count)]
    names = [f"{draw.choice(['Col', 'ü', 'a b', 'x'])}{number}" for number in range(count)]
    wanted: list[list[object]] = []
    written: list[list[str | None]] = []
    for _ in range(draw.choice([0, 1, 7, 60])):
        pairs = [(None, None) if draw.random() < 0.15 else _KINDS[kind](draw) for kind in kinds]
        written.append([text for text, _ in pairs])
        wanted.append([value for _, value in pairs])
    content, params = _write(draw, names, written)
    path = lab.root / f"{seed}.csv"
    path.write_bytes(content)
    types = {name: declared.parse(kind).text for name, kind in zip(names, kinds, strict=True)}
    _check(lab, path, types, params, wanted)
    # The texts as they are, where nobody asks for types: Python's own parse.
    texts = dict.fromkeys(names, "string")
    _check(lab, path, texts, params, [list(row) for row in written])


def _check(
    lab: Lab,
    path: Path,
    types: dict[str, str],
    params: dict[str, object],
    wanted: list[list[object]],
) -> None:
    source = file_source("csv", types, **params)
    files = ResolvedFiles(files=(path,), labels=(path.name,))
    with lab.store.staging() as staging:
        lab.engine.read_files(source, files, staging)
        found = [list(row.values()) for row in rows(lab.keep(staging, source.id))]
    assert len(found) == len(wanted)
    for number, (row, expected) in enumerate(zip(found, wanted, strict=True)):
        for name, value, right in zip(types, row, expected, strict=True):
            assert _same(value, right), (
                f"row {number}, {name} ({types[name]}): {value!r}, {right!r}"
            )
