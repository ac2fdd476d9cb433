"""What a message advises exists: every command, option, package, extra and field of a file.

Here are the texts as they stand in the code; `support.advice.check_printed` looks at those
that the commands of all other tests print.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.advice import FILLED, check_printed, commands, mistake, printed, unknown_options

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "seeknal_core",
    "plugins/postgres/seeknal_postgres",
    "plugins/iceberg/seeknal_iceberg",
    "examples/seeknal-duckdb/seeknal_duckdb",
    "examples/seeknal-openlineage/seeknal_openlineage",
    "examples/seeknal-opentelemetry/seeknal_opentelemetry",
)
PROJECTS = (".", "plugins/postgres", "plugins/iceberg", "examples/seeknal-opentelemetry")
#: Methods that make a command, and the words that come before those of the call.
MAKERS = {"rerun": "seeknal run --select filled", "command": "seeknal", "again": "seeknal"}
#: A field of a YAML file, as hints write it.
_FIELD = re.compile(r"\bparams[.:] ?\{?([a-z][a-z_0-9]+)|\b(?:write|set) ([a-z][a-z_]+):(?= |$)")
#: What looks like one: a placeholder, or a text that is no field.
_NO_FIELDS = {"filled", "names", "key", "name", "it"}


def made(node: ast.AST) -> str:
    """Return the command that an expression makes: ``session.command("state", "recover")``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    starred = any(isinstance(each, ast.Starred) for each in node.args)
    if node.func.attr not in MAKERS or starred:
        return ""
    if not ast.unparse(node.func.value).endswith(("session", "source")):
        return ""
    words = [MAKERS[node.func.attr]]
    for each in node.args if node.func.attr != "rerun" else ():
        constant = isinstance(each, ast.Constant) and isinstance(each.value, str)
        words.append(str(each.value) if constant else FILLED)  # type: ignore[attr-defined]
    return " ".join(words)


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the literal texts of a module, what is filled in replaced by a word."""
    parts: set[ast.AST] = set()
    named = {
        target.id: made(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and made(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def shown(value: ast.expr) -> str:
        if isinstance(value, ast.Constant):
            return str(value.value)
        inner = value.value if isinstance(value, ast.FormattedValue) else value
        return (
            made(inner)
            or (named.get(inner.id, "") if isinstance(inner, ast.Name) else "")
            or FILLED
        )

    docstrings = {
        body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and (body := node.body)
        and isinstance(body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            yield node.lineno, "".join(map(shown, node.values))
        elif made(node):
            yield node.lineno, made(node)  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in parts or node in docstrings:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


@functools.cache
def modules() -> Mapping[str, ast.Module]:
    """Parse all modules whose texts a user may see."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "testing" not in path.parts and "new_backend" not in path.name:
                found[path.relative_to(ROOT).as_posix()] = ast.parse(path.read_text("utf-8"))
    return found


@functools.cache
def all_texts() -> tuple[tuple[str, str], ...]:
    """Collect all texts, with where they stand."""
    return tuple(
        (f"{path}:{line}", text) for path, tree in modules().items() for line, text in texts(tree)
    )


def test_every_command_that_a_message_advises_is_understood() -> None:
    wrong = []
    count = 0
    for where, text in all_texts():
        for command in commands(text):
            count += 1
            try:
                words = shlex.split(command)
            except ValueError:
                words = command.split()
            said = mistake(words)
            if said:
                wrong.append(f"{where}: seeknal {command}: {said}")
    assert not wrong, "\n".join(wrong)
    assert count > 60


def test_every_option_that_a_message_names_exists() -> None:
    wrong = {where: found for where, text in all_texts() if (found := unknown_options(text))}
    assert not wrong, wrong


def test_every_package_and_extra_that_a_message_names_exists() -> None:
    documents = [tomllib.loads((ROOT / each / "pyproject.toml").read_text()) for each in PROJECTS]
    extras = {
        each["project"]["name"]: set(each["project"].get("optional-dependencies", {}))
        for each in documents
    }
    found = [
        (where, name, extra)
        for where, text in all_texts()
        for name, extra in re.findall(
            r"pip install[ -a-z]*? [\"']?(seeknal-[a-z]+)(?:\[(.+?)\])?", text
        )
    ]
    assert len(found) > 3
    for where, name, extra in found:
        assert name in extras, where
        assert extra in ("", FILLED) or extra in extras[name], where


@functools.cache
def fields() -> frozenset[str]:
    """Collect the names of all fields that a file of a project may have."""
    found = {"hive", "null"}
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for each in node.body:
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        found.add(each.target.id)
    return frozenset(found)


def test_every_field_that_a_message_names_exists() -> None:
    named = [
        (where, first or second)
        for where, text in all_texts()
        for first, second in _FIELD.findall(text)
    ]
    assert len(named) > 40
    wrong = [each for each in named if each[1] not in fields() and each[1] not in _NO_FIELDS]
    assert not wrong


PAGES = [
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "plugins/*/README.md", "examples/*/README.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"
]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_documents_is_understood(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    written = [
        line.strip().removeprefix("$ ")
        for kind, block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if kind in ("sh", "console", "yaml")
    ]
    written += re.findall(r"`(seeknal [^`\n]+)`", text)
    wrong = []
    for line in written:
        for words in printed(line.partition("  #")[0]):
            said = mistake([word for word in words if not re.match(r"[\[<…A-Z|]", word)])
            if said:
                wrong.append(f"{line}: {said}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run --adopt", ""),
        ("run --adpot", "run has no option --adpot"),
        ("env mend dev", "there is no command 'mend'"),
        ("run --env dev writes it again", ""),
        ("run --env dev writes it again with --adpot", "run has no option --adpot"),
        ("-C 'my shop' check", ""),
        ("env promote dev prod --abort=keep", ""),
        ("env promote dev prod --abort=kept", "--abort takes no 'kept'"),
        ("promote dev --dry-run", ""),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str, said: str) -> None:
    assert mistake(shlex.split(command)) == said


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("Next: seeknal run --adpot", "run"),
        ("warning: x. Next: fix it, then: seeknal env aply dev", "run"),
        ("Next: seeknal run --env dev", "run --env dev --profile p.yml"),
        ("Next: seeknal env apply dev", "env plan dev --profile p.yml"),
        ("Next: seeknal env promote dev prod", "env promote dev --profile p.yml"),
    ],
)
def test_a_printed_command_that_is_wrong_is_noticed(line: str, typed: str) -> None:
    with pytest.raises(AssertionError):
        check_printed(line, typed.split())


def test_a_printed_command_that_is_right_passes() -> None:
    line = (
        "Next: fix the SQL, then: seeknal run --profile 'my p.yml' --select transform.x; or "
        "(seeknal env status dev) and seeknal env promote dev --profile 'my p.yml' (or --force)"
    )
    check_printed(line, ["run", "--profile", "my p.yml"])
    assert unknown_options("look: --full-refresh, or --ful-refresh=3") == ["--ful-refresh"]
