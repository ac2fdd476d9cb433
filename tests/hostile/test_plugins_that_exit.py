"""A plugin, or a Python node, that ends the process makes no command look like a success."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write
from support.distributions import install

#: What Python code may raise that is no ordinary exception.
RAISES = (
    "sys.exit(0)",
    "sys.exit()",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "raise type('Odd', (BaseException,), {})('odd')",
    "assert False, 'odd'",
)
#: At import, in the main thread, a KeyboardInterrupt is the user's own.
AT_IMPORT = [code for code in RAISES if "KeyboardInterrupt" not in code]
WRAPPER = """\
import sys
from seeknal_core.contract.hooks import hookimpl


@hookimpl(%s=True)
def materialize(context, target, snapshot):
%s
"""
READER = """
import sys as _sys
_read = read_source


@hookimpl
def read_source(context, source):
    import attrs
    import pyarrow as pa

    stream = _read(context, source)

    def rows():
        %s
        yield

    opened = lambda: pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), rows())
    return attrs.evolve(stream, open=opened, scan=None)
"""
SOURCE = "kind: source\nname: a\nsource: folder\ntable: sales.totals\n"
_FOLDER = Path(__file__).parents[1] / "support" / "seeknal_folder.py"


def wrapper(site: Path, source: str) -> None:
    install(
        site,
        distribution="seeknal-rude",
        module="seeknal_rude",
        source=source,
        entry_points={"seeknal.plugins": {"rude": "seeknal_rude"}},
    )


def backend(site: Path, source: str) -> None:
    """Put another text in the place of the folder backend's."""
    (site / "seeknal_folder.py").write_text(source, "utf-8")


@pytest.mark.parametrize("code", AT_IMPORT)
def test_a_backend_that_exits_at_its_import_is_broken(
    seeknal: Cli, folder_site: Path, code: str
) -> None:
    backend(folder_site, f"import sys\n{code}\n" + _FOLDER.read_text("utf-8"))
    said = seeknal("run", code=2).err
    assert "seeknal-folder 1.0" in said and "cannot be imported" in said


@pytest.mark.parametrize("code", RAISES)
def test_a_backend_that_exits_in_a_hook_fails_the_run(
    seeknal: Cli, folder_site: Path, code: str
) -> None:
    text = _FOLDER.read_text("utf-8")
    start = "    path = _path(context, target.name.parts)\n"
    assert text.count(start)
    backend(folder_site, text.replace(start, f"    import sys\n    {code}\n{start}"))
    said = seeknal("run", code=1).said
    assert "seeknal-folder 1.0 failed in materialize" in said
    assert "sys.exit" in said or "sys.exit" not in code


@pytest.mark.parametrize("code", RAISES)
def test_a_backend_that_exits_while_its_rows_are_read_fails_the_run(
    seeknal: Cli, project: Path, folder_site: Path, code: str
) -> None:
    seeknal("run")
    write(project, {"seeknal/a.yml": SOURCE})
    backend(folder_site, _FOLDER.read_text("utf-8") + READER % code.replace("sys.", "_sys."))
    said = seeknal("run", "--select", "source.a", code=1).said
    assert "source.a" in said and "failed" in said


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("wrapper", "    sys.exit(0)\n    return (yield)"),
        ("wrapper", "    found = yield\n    sys.exit(0)"),
        ("wrapper", "    found = yield\n    raise KeyError('mine')"),
        ("hookwrapper", "    raise ValueError('mine')\n    yield"),
        ("hookwrapper", "    yield\n    yield"),
        ("wrapper", "    if False:\n        yield"),
    ],
)
def test_the_fault_of_a_wrapper_is_called_the_wrapper_s(
    seeknal: Cli, folder_site: Path, kind: str, body: str
) -> None:
    wrapper(folder_site, WRAPPER % (kind, body))
    said = seeknal("run", code=1).said
    assert "seeknal-rude 1.0 failed in materialize" in said
    assert "seeknal-folder 1.0 failed" not in said


def test_a_wrong_result_is_said_to_come_from_either(seeknal: Cli, folder_site: Path) -> None:
    wrapper(folder_site, WRAPPER % ("wrapper", "    yield\n    return 5"))
    said = seeknal("run", code=1).said
    assert "materialize returned int" in said and "seeknal-rude 1.0, which wraps it" in said


def test_the_fault_of_a_backend_is_its_own_below_a_wrapper(seeknal: Cli, folder_site: Path) -> None:
    wrapper(folder_site, WRAPPER % ("wrapper", "    return (yield)"))
    text = _FOLDER.read_text("utf-8")
    start = "    path = _path(context, target.name.parts)\n"
    backend(folder_site, text.replace(start, f"    import sys\n    sys.exit(0)\n{start}"))
    said = seeknal("run", code=1).said
    assert "seeknal-folder 1.0 failed in materialize" in said


@pytest.mark.parametrize("code", AT_IMPORT[:3])
def test_a_wrapper_that_exits_at_its_import_is_left_out(
    seeknal: Cli, folder_site: Path, code: str
) -> None:
    wrapper(folder_site, f"import sys\n{code}\n")
    said = seeknal("run").err
    assert "plugin 'rude' (seeknal-rude 1.0) cannot be imported" in said
    assert "written" in seeknal("run", "--env", "dev", "--all-targets").out
    seeknal("--strict-plugins", "run", code=2)


def test_what_exits_outside_of_a_hook_fails_the_command(seeknal: Cli, folder_site: Path) -> None:
    text = _FOLDER.read_text("utf-8")
    start = '        return {"path": self.options.path}\n'
    assert text.count(start)
    backend(folder_site, text.replace(start, "        import sys\n        sys.exit(0)\n"))
    for command in (("run",), ("run", "--json"), ("env", "plan", "dev")):
        said = seeknal(*command, code=1).err
        assert "seeknal_folder:" in said and "sys.exit(0)" in said


@pytest.mark.parametrize("code", RAISES)
@pytest.mark.parametrize("generator", [False, True])
def test_a_python_node_that_exits_fails_the_run(
    seeknal: Cli, project: Path, code: str, generator: bool
) -> None:
    end = "    yield\n" if generator else "    return ctx.ref('source.orders')\n"
    node = (
        "import sys\nfrom seeknal_core.pipeline import transform\n"
        "@transform(name='rude', inputs=['source.orders'])\ndef rude(ctx):\n"
        f"    {code}\n{end}"
    )
    write(project, {"seeknal/rude.py": node})
    said = seeknal("run", code=1).said
    assert "transform.rude: failed: seeknal/rude.py:5:" in said
