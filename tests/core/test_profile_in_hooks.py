"""The profile that the command line chose is the one every hook call sees."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from support.cli import Cli, write
from support.distributions import install

WITNESS = '''
"""Writes down what every hook call sees."""
import json, os, threading
from seeknal_core import hookspecs
from seeknal_core.contract.hooks import hookimpl

def note(hook, context):
    line = json.dumps([hook, context.profile.path, context.environment.name,
                       context.environment.prefix, threading.current_thread().name])
    with open(os.environ["WITNESS"], "a") as file:
        file.write(line + "\\n")

def wrapper(hook, arguments):
    scope = {"note": note}
    exec(f"def {hook}({arguments}):\\n    note('{hook}', context)\\n    return (yield)\\n", scope)
    return hookimpl(wrapper=True)(scope[hook])

resolve_profile = wrapper("resolve_profile", "context, connection")
namespace_for = wrapper("namespace_for", "context, target")
inspect_target = wrapper("inspect_target", "context, target")
read_source = wrapper("read_source", "context, source")
materialize = wrapper("materialize", "context, target, snapshot")
'''


@pytest.mark.parametrize("how", ["option", "variable", "by name"])
def test_every_hook_call_of_a_parallel_run_sees_the_chosen_profile(
    seeknal: Cli, project: Path, folder_site: Path, tmp_path: Path, how: str
) -> None:
    install(
        folder_site,
        distribution="seeknal-witness",
        module="witness",
        source=WITNESS,
        entry_points={"seeknal.plugins": {"witness": "witness"}},
    )
    nodes = "---\n".join(
        f"kind: transform\nname: n{i}\ntransform: SELECT {i} AS i FROM source.orders\n"
        f"materialization: {{type: folder, table: many.n{i}}}\n"
        for i in range(12)
    )
    stored = "kind: source\nname: stored\nsource: folder\ntable: raw.stored\n"
    write(project, {"seeknal/many.yml": nodes, "seeknal/stored.yml": stored})
    import pyarrow as pa
    import pyarrow.parquet as pq

    (project / "other" / "raw").mkdir(parents=True)
    pq.write_table(pa.table({"x": [1]}), project / "other" / "raw" / "stored.parquet")
    chosen = project / ("profiles-dev.yml" if how == "by name" else "chosen.yml")
    write(project, {chosen.name: "connections:\n  lake: {type: folder, path: ./other}\n"})
    witness = tmp_path / "calls.jsonl"
    arguments = ["--profile", str(chosen)] if how == "option" else []
    if how == "variable":
        seeknal = attrs.evolve(seeknal, environ={**seeknal.environ, "SEEKNAL_PROFILE": str(chosen)})
    seeknal("run", "--env", "dev", "--threads", "8", *arguments, WITNESS=str(witness))

    calls = [json.loads(line) for line in witness.read_text().splitlines()]
    assert {call[0] for call in calls} == {
        "resolve_profile", "namespace_for", "inspect_target", "read_source", "materialize",
    }  # fmt: skip
    assert sum(call[0] == "materialize" for call in calls) == 14
    assert len({call[4] for call in calls if call[0] == "materialize"}) > 1
    # Production's own profile is asked for one thing only: where its targets are.
    seen = {tuple(call[1:4]) for call in calls if call[0] in ("materialize", "read_source")}
    assert len(seen) == 1
    ((path, environment, prefix),) = seen
    assert Path(path).name == chosen.name
    assert (environment, prefix) == ("dev", "")
    assert {call[2] for call in calls} <= {"dev", "prod"}
    for call in calls:
        assert Path(call[1]).name == (chosen.name if call[2] == "dev" else "profiles.yml")
