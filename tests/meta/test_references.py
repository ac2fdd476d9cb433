"""No reference leads nowhere: links, anchors, paths, sections and decisions that any file names."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_DOCUMENTS = {".md"}
_CODE = {".cfg", ".ini", ".py", ".sh", ".svg", ".tmpl", ".toml", ".yaml", ".yml"}
#: What is made, and what belongs to others.
_LEFT_OUT = {"build", "dist", "node_modules", "results", "target"}
#: Pages about the past name what was there then.
_HISTORY = ("CHANGELOG.md", "changes/", "docs/adr/")
_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w./-])(?:seeknal_core|plugins|tests|docs|examples|bench|\.ci)/[\w./*-]+")
#: Not a whole text such as "hooks.md", which is part of a path.
_PAGE = re.compile(
    r"(?<![\w./:{}\-\"'\[(])((?:[\w.-]+/)*[\w-]+\.md)\b(?!\.\w)(?:`*,? \(?\"([^\"\n]+)\")?"
)
_DECISION = re.compile(r"\b(?:ADR |adr/)0*(\d+)")
_MODULE = re.compile(r"(?<![\w./-])seeknal_(?:core|postgres|iceberg)(?:\.[A-Za-z_]\w*)+")


def _files(suffixes: set[str]) -> list[Path]:
    found = []
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in {".ci", ".github"} for part in parts)
        if path.suffix in suffixes and not hidden and not _LEFT_OUT & set(parts):
            found.append(path)
    return sorted(found)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _folder(path: Path) -> Path:
    """Return the folder that a page's links start from: fragments become part of CHANGELOG.md."""
    fragment = path.parent == ROOT / "changes" and path.name != "README.md"
    return ROOT if fragment else path.parent


def _blank(match: re.Match[str]) -> str:
    """Return as many empty lines, so that line numbers stay."""
    return "\n" * match[0].count("\n")


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def _prose(path: Path) -> str:
    return _FENCE.sub(_blank, _text(path))


@cache
def _headings(path: Path) -> frozenset[str]:
    return frozenset(
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h) for h in _HEADING.findall(_prose(path))
    )


@cache
def _anchors(path: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives a page's headings."""
    slugs: list[str] = []
    for heading in _HEADING.findall(_prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        slugs.append(f"{slug}-{slugs.count(slug)}" if slug in slugs else slug)
    return frozenset(slugs)


def _places(path: Path, pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, re.Match[str]]]:
    for match in pattern.finditer(text):
        yield f"{_name(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}", match


@pytest.mark.parametrize("path", _files(_DOCUMENTS), ids=_name)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    wrong = []
    for place, match in _places(path, _LINK, _prose(path)):
        link, _, anchor = match[1].partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (_folder(path) / link).resolve() if link else path
        if not target.exists() or not target.is_relative_to(ROOT):
            wrong.append(f"{place}: no such file")
        elif anchor and anchor not in _anchors(target):
            wrong.append(f"{place}: no such heading")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path", [each for each in _files(_DOCUMENTS) if not _name(each).startswith(_HISTORY)], ids=_name
)
def test_every_path_that_a_page_names_exists(path: Path) -> None:
    wrong = []
    for place, match in _places(path, _PATH, _prose(path)):
        named = match[0].rstrip(".")
        if not any(ROOT.glob(named.rstrip("/"))):
            wrong.append(place)
    assert not wrong, "\n".join(wrong)


def test_every_page_that_the_code_names_exists_and_has_the_section() -> None:
    wrong = []
    for path in _files(_CODE):
        for place, match in _places(path, _PAGE, _text(path)):
            pages = [page for page in (ROOT / match[1], path.parent / match[1]) if page.exists()]
            if not pages:
                wrong.append(f"{place}: no such page; name it from the repository's root")
            elif match[2] and match[2] not in _headings(pages[0]):
                wrong.append(f"{place}: no such section")
    assert not wrong, "\n".join(wrong)


def test_every_module_that_code_and_pages_name_exists() -> None:
    wrong = []
    for path in _files(_DOCUMENTS | _CODE):
        # Tests also name what doesn't exist.
        if not _name(path).startswith((*_HISTORY, "tests/")):
            for place, match in _places(path, _MODULE, _text(path)):
                if not _exists(match[0]):
                    wrong.append(place)
    assert not wrong, "\n".join(wrong)


@cache
def _exists(dotted: str) -> bool:
    """Tell whether a dotted name is a module, or an attribute of one."""
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_decision_that_is_named_exists() -> None:
    written = {int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
    wrong = []
    for path in _files(_DOCUMENTS | _CODE):
        for place, match in _places(path, _DECISION, _text(path)):
            if int(match[1]) not in written:
                wrong.append(place)
    assert not wrong, "\n".join(wrong)


def test_every_page_is_in_the_list_of_pages() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / match[1]).resolve() for match in _LINK.finditer(_text(index))}
    pages = {each for each in (ROOT / "docs").glob("*.md") if each != index}
    assert {_name(each) for each in pages - listed} == set(), "add them to docs/README.md"
