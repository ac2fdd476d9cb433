"""The readers of files: whatever a file holds, rows or a sentence."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuzz.target import Run, Target, parts
from support.engines import file_source, open_lab

_PARTS = {
    "[Content_Types].xml": (
        b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        b'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        b'<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        b'spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="applica'
        b'tion/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/share'
        b'dStrings.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedString'
        b's+xml"/><Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocum'
        b'ent.spreadsheetml.styles+xml"/></Types>'
    ),
    "_rels/.rels": (
        b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relation'
        b'ships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relation'
        b'ships/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/_rels/workbook.xml.rels": (
        b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relation'
        b'ships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relation'
        b'ships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openx'
        b'mlformats.org/officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/><Relatio'
        b'nship Id="rId3" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" T'
        b'arget="styles.xml"/></Relationships>'
    ),
}
_MAIN = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_WORKBOOK = (
    b"<workbook "
    + _MAIN
    + b' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
    b'<sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>'
)
_STYLES = (
    b"<styleSheet "
    + _MAIN
    + b'><numFmts><numFmt numFmtId="170" formatCode="yyyy-mm-dd"/></numFmts><fonts>'
    b"<font/></fonts><fills><fill/></fills><borders><border/></borders><cellStyleXfs><xf/></cellStyleXfs>"
    b'<cellXfs><xf/><xf numFmtId="170" applyNumberFormat="1"/></cellXfs></styleSheet>'
)
_STRINGS = b"<sst " + _MAIN + b"><si><t>id</t></si><si><t>name</t></si><si><t>x</t></si></sst>"
_XML = (
    "<row r='", "<c r='A1' t='s'><v>", "</v></c>", "t='inlineStr'", "<is><t>", "t='b'", "t='e'", "t='d'", "s='1'",
    "<mergeCell ref='", "<dimension ref='A1:XFD1048576'/>", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "1E400",
    "<f>", "-1", "99999999999",
)  # fmt: skip


def workbook(data: bytes) -> bytes:
    """Make a workbook of an input: of its sheet, texts, styles and list of sheets; or take it as it is."""
    if data[:2] == b"PK":
        return data
    sheet, strings, styles, book = parts(data, 4)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in _PARTS.items():
            archive.writestr(name, content)
        archive.writestr("xl/workbook.xml", book or _WORKBOOK)
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
        archive.writestr("xl/sharedStrings.xml", strings or _STRINGS)
        archive.writestr("xl/styles.xml", styles or _STYLES)
    return made.getvalue()


#: What the first byte of an input of text chooses.
_CSV: tuple[Mapping[str, object], ...] = (
    {}, {"header": False}, {"delimiter": ";"}, {"encoding": "latin-1"}, {"encoding": "utf-16"},
    {"all_varchar": True}, {"quote": "'"}, {"nullstr": "NULL"},
)  # fmt: skip
_TYPES: tuple[Mapping[str, str], ...] = (
    {}, {"a": "integer"}, {"a": "DECIMAL(5,2)", "b": "date"}, {"a": "timestamp", "b": "double"},
)  # fmt: skip


def _reader(type: str, words: tuple[str, ...], *, longest: int) -> Target:
    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[Run]:
        with open_lab(folder) as lab:

            def run(data: bytes) -> None:
                params: Mapping[str, object] = {}
                dtypes: Mapping[str, str] = {}
                if type in ("csv", "json", "jsonl") and data:
                    if type == "csv":
                        params = _CSV[data[0] % len(_CSV)]
                    dtypes = _TYPES[(data[0] // 8) % len(_TYPES)]
                    data = data[1:]
                suffix = ".gz" if data[:2] == b"\x1f\x8b" else ""
                file = folder / f"file.{type}{suffix}"
                file.write_bytes(workbook(data) if type == "xlsx" else data)
                with lab.store.staging() as staging:
                    from seeknal_core.engine.files.opened import ResolvedFiles

                    files = ResolvedFiles(files=(file,), labels=(file.name,))
                    lab.engine.read_files(file_source(type, dtypes, **params), files, staging)

            yield run

    return Target(name=type, open=opened, longest=longest, seconds=10, words=words)


TARGETS = (
    _reader(
        "csv",
        ("a,b\n", '"', '""', "\r\n", "\\", ";", "\t", "\0", "1e5", "2026-01-02"),
        longest=1_000,
    ),
    _reader(
        "json",
        ('{"a": ', "}", "[", "null", "1e999", '"\\ud800"', "NaN", "\n", '"b"'),
        longest=1_000,
    ),
    _reader(
        "jsonl", ('{"a": ', "}\n", "[", "null", "1e999", '"\\ud800"', "\n", '"b"'), longest=1_000
    ),
    _reader("xlsx", _XML, longest=3_000),
    _reader("parquet", ("PAR1",), longest=3_000),
)
