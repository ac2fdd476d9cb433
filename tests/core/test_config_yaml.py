"""YAML with places, and the files it stands in."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.project.yaml import parse, parse_one, read_text, resolve_plain


def refusal(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yml")
    return [str(problem) for problem in caught.value.problems]


def test_values_are_those_of_yaml() -> None:
    text = "a: 1\nb: [x, 1.5, true, null, 2024-01-02]\nc: {d: 'e'}\nno: yes\n7: x\n"
    document = parse_one(text, "f.yml")
    assert document.value == {
        "a": 1,
        "b": ["x", 1.5, True, None, date(2024, 1, 2)],
        "c": {"d": "e"},
        "no": True,
        "7": "x",
    }


def test_each_value_knows_its_place() -> None:
    document = parse_one("a:\n  - b: 1\n    c.d: 2\nsql: |\n  SELECT 1\n", "f.yml")
    assert document.place("a[0].c.d")[:2] == (3, 5)
    assert document.place("a[0]")[:2] == (2, 5)
    assert document.place("sql") == (4, 1, (5, 3))


def test_a_path_that_is_not_there_has_the_place_around_it() -> None:
    document = parse_one("x: 1\na:\n  b:\n    c: 1\n", "f.yml")
    assert document.place("a.b.missing[3].more")[:2] == (3, 3)
    assert document.place("nothing")[:2] == (1, 1)


def test_duplicate_keys_are_refused_with_both_places() -> None:
    assert refusal("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
        "f.yml:4:3: b.c: is written twice, first on line 3",
        "f.yml:5:1: a: is written twice, first on line 1",
    ]


def test_merged_mappings_give_way_to_written_keys() -> None:
    document = parse_one("x: &x {p: 1, q: 2}\ny: {<<: *x, q: 3}\n", "f.yml")
    assert document.value == {"x": {"p": 1, "q": 2}, "y": {"p": 1, "q": 3}}
    assert document.place("y.q")[:2] == (2, 13)


def test_several_documents_keep_their_lines() -> None:
    documents = parse("a: 1\n---\n# nothing\n---\nb: 2\n", "f.yml")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]
    assert documents[1].place("b")[:2] == (5, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "f.yml:1:6: is not YAML"),
        ("a: 1\n\tb: 2", "indent with spaces, not tabs"),
        ("a: b: c", "put quotes around a value that holds ': '"),
        ("x: {y: ${Z}}", 'write "${VAR}" with quotes'),
        ("{{ today }}: 1", "put quotes around a template"),
        ("a: *x", "put quotes around a value that starts with *"),
        ("a: !python/object:os.system x", "a tag that is not allowed"),
        ("a: &x [*x]", "an alias inside of what it stands for"),
        ("a: 2024-99-99", "is no timestamp"),
        ("a: \x01", "a character that is not allowed"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("- " * 90_000 + "x", "nested too deeply"),
    ],
    ids=range(13),
)
def test_what_is_not_yaml_is_one_clear_mistake(text: str, message: str) -> None:
    found = refusal(text)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize("text", ["password: *hunter2", "password: !hunter2 x", "p: 'hunter2"])
def test_a_badly_quoted_password_is_not_repeated(text: str) -> None:
    assert "hunter2" not in "".join(refusal(text))


def test_aliases_cannot_multiply_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = refusal("\n".join(lines))
    assert len(found) == 1
    assert "too many values" in found[0]


def test_a_second_document_is_refused_where_one_is_meant() -> None:
    with pytest.raises(ConfigError, match=r"f\.yml:3:1: a second document"):
        parse_one("a: 1\n---\nb: 2\n", "f.yml")


@pytest.mark.parametrize("text", ["- 1\n", "x\n"])
def test_one_mapping_is_demanded(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a mapping"):
        parse_one(text, "f.yml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"a: 1\nb: \xff\n", r"f\.yml:2: is not UTF-8"),
        (b"a\0b", "is a binary file"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_text(path, "f.yml")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"f\.yml: cannot be read: No such file"):
        read_text(tmp_path / "f.yml", "f.yml")
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_text(tmp_path, "f.yml")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_text(tmp_path / "fifo", "fifo")


def test_a_byte_order_mark_and_windows_lines_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_text(path, "f.yml") == "a: 1\nb: 2\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5432", 5432),
        ("true", True),
        ("1.5", 1.5),
        ("", ""),
        ("null", "null"),
        ("2024-01-01", "2024-01-01"),
        ("db", "db"),
    ],
)
def test_a_plain_scalar_is_resolved(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert found == value
    assert type(found) is type(value)
