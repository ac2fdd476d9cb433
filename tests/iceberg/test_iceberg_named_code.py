"""No name in a profile, a catalog's answer or a table's properties has code loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.rest.auth import AuthManagerFactory
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table.locations import SimpleLocationProvider, load_location_provider

from seeknal_core.errors import BackendError, OptionError
from seeknal_core.types import ConnectionSpec
from seeknal_iceberg.connection import imports
from seeknal_iceberg.connection.profile import resolve
from support.cli import Cli, write

#: Leaves a mark when it is imported, and another when it is called.
EVIL = """\
import pathlib
MARK = pathlib.Path(__file__).with_name("mark")
MARK.write_text("imported")


def run(*arguments, **keywords):
    MARK.write_text("called")
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that anybody may name, and what it leaves when it is loaded."""
    write(tmp_path / "evil", {"evil_code.py": EVIL})
    monkeypatch.syspath_prepend(str(tmp_path / "evil"))
    yield tmp_path / "evil" / "mark"
    sys.modules.pop("evil_code", None)


def as_backend(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call pyiceberg as this backend's own code does."""
    space = {"__name__": "seeknal_iceberg.anything", "f": function, "a": arguments}
    exec("found = f(*a)", space)
    return space["found"]


NAMED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "py-io-impl": (load_file_io, ({"py-io-impl": "evil_code.run"},)),
    "write.py-location-provider.impl": (
        load_location_provider,
        ("file:///t", {"write.py-location-provider.impl": "evil_code.run"}),
    ),
    "s3.retry-strategy-impl": (
        lambda: PyArrowFileIO(
            {"s3.retry-strategy-impl": "evil_code.run", "s3.region": "r"}
        ).fs_by_scheme("s3", "b"),
        (),
    ),
    "auth.type": (lambda: AuthManagerFactory.create("evil_code.run", {}), ()),
}


@pytest.mark.parametrize("property", NAMED)
def test_pyiceberg_imports_nothing_by_name_for_this_backend(mark: Path, property: str) -> None:
    imports.guard()
    with pytest.raises(BackendError, match=property):
        as_backend(*_call(property))
    assert not mark.exists()


@pytest.mark.parametrize("property", ["py-io-impl", "write.py-location-provider.impl"])
def test_code_of_a_user_still_loads_what_it_names(mark: Path, property: str) -> None:
    imports.guard()
    function, arguments = NAMED[property]
    with pytest.raises(ValueError, match="Could not initialize"):  # it gives nothing back
        function(*arguments)
    assert mark.read_text() == "called"


def _call(property: str) -> tuple[Any, ...]:
    function, arguments = NAMED[property]
    return (function, *arguments)


def test_every_name_that_pyiceberg_loads_by_is_guarded() -> None:
    """A new version of pyiceberg may load code in another place: look at it then."""
    import pyiceberg

    folder = Path(pyiceberg.__file__).parent
    found = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if "import_module(" in path.read_text("utf-8")
    }
    assert found == {
        "catalog/__init__.py", "catalog/rest/auth.py", "io/__init__.py", "io/pyarrow.py",
        "table/locations.py",
        "transforms.py",  # names a package of its own
    }  # fmt: skip


@pytest.mark.parametrize(
    "catalog",
    [
        {"auth": {"type": "custom", "impl": "subprocess.Popen", "custom": {"args": "true"}}},
        {"auth": {"type": "subprocess.Popen"}},
        {"auth.impl": "subprocess.Popen"},
        {"py-io-impl": "os.system"},
        {"py-catalog-impl": "os.system"},
        {"s3.retry-strategy-impl": "os.getpid"},
        {"s3": {"retry-strategy-impl": "os.getpid"}},
    ],
)
def test_a_profile_that_names_code_is_refused(catalog: dict[str, Any]) -> None:
    options = {"catalog": {"type": "rest", "uri": "http://127.0.0.1:1", **catalog}}
    with pytest.raises(OptionError, match="could run anything"):
        resolve(ConnectionSpec(name="lake", type="iceberg", options=options), "/p")


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql+evil://h/d", "evil://h/d", "oracle+evil://h", "sqlite+evil:///x",
        "postgresql+psycopg2://h/d?plugin=evil", "sqlite:///x.db?a=1&plugin=", "SQLITE+evil:///x",
    ],
)  # fmt: skip
def test_a_sql_catalog_names_no_code(uri: str) -> None:
    options = {"catalog": {"type": "sql", "uri": uri}}
    with pytest.raises(OptionError):
        resolve(ConnectionSpec(name="lake", type="iceberg", options=options), "/p")


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///x.db", "postgresql+psycopg2://u:p@h/d?sslmode=require", "mysql+pymysql://h/d"],
)
def test_the_databases_of_sql_catalogs_go_on_working(uri: str) -> None:
    options = {"catalog": {"type": "sql", "uri": uri, "warehouse": "/w"}}
    found = resolve(ConnectionSpec(name="lake", type="iceberg", options=options), "/p")
    assert found.catalog_type == "sql"


def test_a_table_s_properties_load_no_code_and_open_its_files_no_other_way(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write a table's properties could else run code with the reader's rights."""
    warehouse = tmp_path / "p" / "warehouse"
    warehouse.mkdir(parents=True)
    catalog = SqlCatalog(
        "default", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}"
    )
    catalog.create_namespace("raw")
    table = catalog.create_table("raw.o", pa.schema([("id", pa.int64())]))
    table.append(pa.table({"id": [1, 2]}))
    names = ("py-io-impl", "write.py-location-provider.impl", "s3.retry-strategy-impl")
    with monkeypatch.context() as outsider, table.transaction() as change:
        outsider.setattr("pyiceberg.io._import_file_io", lambda _, found: PyArrowFileIO(found))
        outsider.setattr(
            "pyiceberg.table.locations._import_location_provider",
            lambda _, place, found: SimpleLocationProvider(place, found),
        )
        change.set_properties(dict.fromkeys(names, "evil_code.run"))
        change.commit_transaction()
    catalog.engine.dispose()
    files = {
        "seeknal_project.yml": "name: p\n",
        "profiles.yml": "connections: {local: {type: iceberg, warehouse: ./warehouse}}\n",
        "seeknal/o.yml": "kind: source\nname: o\nsource: iceberg\ntable: local.raw.o\n",
        "seeknal/t.sql": (
            "/* ---\nmaterialization: {table: local.out.t}\n--- */\nSELECT * FROM source.o\n"
        ),
    }
    write(tmp_path / "p", files)
    environ = {"HOME": str(tmp_path), "PYTHONPATH": str(mark.parent)}
    seeknal = Cli(cwd=tmp_path / "p", environ=environ)
    seeknal("run")
    assert not mark.exists()


@pytest.mark.parametrize(
    "property",
    ["write.py-location-provider.impl", "py-io-impl", "write.data.path", "s3.endpoint"],
)
def test_a_target_s_properties_lead_nowhere_else(tmp_path: Path, property: str) -> None:
    target = f"{{table: local.out.t, properties: {{{property}: x.Y}}}}"
    files = {
        "seeknal_project.yml": "name: p\n",
        "profiles.yml": "connections: {local: {type: iceberg, warehouse: ./warehouse}}\n",
        "seeknal/t.sql": f"/* ---\nmaterialization: {target}\n--- */\nSELECT 1 AS a\n",
    }
    write(tmp_path, files)
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path)}, warm=True)
    assert "which is the profile's to say" in seeknal("check", code=2).err
