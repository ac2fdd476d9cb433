"""The contract: one place to import from, and the older names that still work."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from seeknal_core import contract, project
from seeknal_core.contract import hooks
from seeknal_core.contract.hooks import Hook

OLDER = {
    "checksums": "checksums",
    "errors": "errors",
    "hookspecs": "hooks",
    "naming": "names",
    "rules": "rules",
    "structure": "options",
    "types": "types",
}


@pytest.mark.parametrize(("old", "new"), OLDER.items())
def test_an_older_module_has_every_public_name_of_the_new_one(old: str, new: str) -> None:
    before = importlib.import_module(f"seeknal_core.{old}")
    now = importlib.import_module(f"seeknal_core.contract.{new}")
    own = {
        name
        for name, value in vars(now).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and str(getattr(value, "__module__", "")).startswith(now.__name__)
    }
    assert own <= set(before.__all__)
    assert all(getattr(before, name) is getattr(now, name) for name in before.__all__)


@pytest.mark.parametrize("name", project.__all__)
def test_every_name_can_be_imported_from_the_project(name: str) -> None:
    assert getattr(project, name) is not None


@pytest.mark.parametrize("name", contract.__all__)
def test_every_name_can_be_imported_from_the_contract(name: str) -> None:
    assert getattr(contract, name) is not None
    assert name in dir(contract)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = contract.Nope


def test_importing_the_contract_imports_no_engine() -> None:
    program = (
        "import sys; from seeknal_core.contract import Target, hookimpl, WriteRefused; "
        "sys.exit(any(name in sys.modules for name in ('duckdb', 'pyarrow', 'cattrs')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_hook_has_its_name_in_the_enum_in_the_order_of_the_specifications() -> None:
    specified = [
        name for name, value in vars(hooks).items() if hasattr(value, f"{hooks.PROJECT}_spec")
    ]
    assert [hook.value for hook in Hook] == specified
    assert [hook.name.lower() for hook in Hook] == specified


def test_every_name_of_the_project_package_is_found_in_its_module() -> None:
    from seeknal_core import project

    assert [name for name in project.__all__ if getattr(project, name, None) is None] == []
