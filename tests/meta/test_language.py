"""Code and pages say things as the field says them (CONTRIBUTING.md, "Language")."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("seeknal_core", "plugins", "examples", "docs", "bench")
CODE = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ".venv" not in path.parts and "build" not in path.parts
)
PAGES = sorted(
    path
    for path in [
        *(ROOT / folder for folder in ("README.md", "CONTRIBUTING.md", "RELEASING.md")),
        *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")),
    ]
    # Decisions stay as they were written.
    if "adr" not in path.parts
)
#: Phrases, not words: most words have their use. Each with what is written instead.
PHRASES = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bstands? twice\b": "is duplicated",
    r"\boutside the promise\b": "not atomic",
    r"\bgoes? about (it|its)\b": "execution options",
    r"\bis had\b|\bwhat is had\b": "exists",
    r"\b(tells?|told|gives?) of (a|an|the|what|whom|somebody)\b": "report",
    r"\bpart writes\b": "split",
    r"\basks? (a|the|no) (query|question) of\b": "run a SQL query on",
}
#: How a docstring begins: with what the function does, in the field's words.
BEGINNINGS = re.compile(r"(Tell|Say) (whether|what|which|how|why|where|when|of)\b")


@pytest.mark.parametrize("phrase", PHRASES)
def test_no_page_and_no_code_has_a_phrase_of_the_old_house(phrase: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (*CODE, *PAGES)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(phrase, line, re.IGNORECASE)
    ]
    assert not found, f"write: {PHRASES[phrase]}"


def test_a_docstring_begins_with_what_the_function_does() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {doc.splitlines()[0]}"
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (doc := ast.get_docstring(node)) is not None
        and BEGINNINGS.match(doc)
    ]
    assert not found, "write: Return ..., Report ..., Print ..."
