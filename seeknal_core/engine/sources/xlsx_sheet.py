"""What a sheet's own XML says and a reader of cells passes over.

A formula that was never computed has no value, and of merged cells only the first has
one: both would arrive as NULL. Element names are of ECMA-376, part 1, 18.3.1.
"""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import attrs

_ID_ENDS = "}id"


@attrs.frozen(kw_only=True)
class Oddities:
    """``merged`` ranges of cells, and cells whose formula has no stored value."""

    merged: tuple[str, ...]
    uncomputed: tuple[str, ...]


def oddities(path: Path, sheet: str) -> Oddities:
    """Look through the XML of a sheet."""
    merged: list[str] = []
    uncomputed: list[str] = []
    with zipfile.ZipFile(path) as archive, archive.open(_part_of(archive, sheet)) as stream:
        rows: ElementTree.Element | None = None
        for event, element in ElementTree.iterparse(stream, ("start", "end")):
            name = _local(element.tag)
            if event == "start":
                rows = element if name == "sheetData" else rows
            elif name == "mergeCell":
                merged.append(element.get("ref", ""))
            elif name == "c":
                children = {_local(child.tag): child for child in element}
                value = children.get("v")
                # A text may be computed and empty.
                has_value = value is not None and (value.text or element.get("t") == "str")
                if "f" in children and not has_value:
                    uncomputed.append(element.get("r", ""))
            elif name == "row" and rows is not None:
                rows.clear()
    return Oddities(merged=tuple(merged), uncomputed=tuple(uncomputed))


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str:
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    found = next(
        element
        for element in book.iter()
        if _local(element.tag) == "sheet" and element.get("name") == sheet
    )
    relation = next(value for key, value in found.attrib.items() if key.endswith(_ID_ENDS))
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    target = next(one.get("Target", "") for one in relations if one.get("Id") == relation)
    return posixpath.normpath(posixpath.join("/xl", target)).lstrip("/")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
