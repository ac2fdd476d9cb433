"""The way out that a refused value of a source names works when it is pasted."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.cli import Cli, write
from support.postgres_hooks import Database

VALUES = {
    "numeric_nan": "'NaN'::numeric",
    "sized_nan": "'NaN'::numeric(5, 2)",
    "long_number": "2::numeric ^ 200",
    "fine_number": "1e-40::numeric",
    "end_of_days": "'infinity'::date",
    "far_moment": "'294276-12-31'::timestamptz",
    "dimensions": "'{{1,2},{3,4}}'::int[]",
    "bounds": "'[0:1]={1,2}'::text[]",
    "infinite_moments": "'{infinity}'::timestamp[]",
}


def test_the_way_out_of_each_refused_value_works(db: Database, tmp_path: Path) -> None:
    connection = json.dumps({"type": "postgresql", **db.dsn})
    # Names that YAML or SQL would take for something else.
    names = {node: ("On" if node == "bounds" else f"a {node}: 1%") for node in VALUES}
    for node, value in VALUES.items():
        db.execute(f'CREATE TABLE public.{node} AS SELECT {value} AS "{names[node]}"')
    head = "kind: source\nname: {0}\nsource: postgresql\ntable: public.{0}\n"
    head += "params: {{connection: wh}}\n"
    write(
        tmp_path,
        {
            "seeknal_project.yml": "name: shop\n",
            "profiles.yml": f"connections: {{wh: {connection}}}\n",
            **{f"seeknal/{node}.yml": head.format(node) for node in VALUES},
        },
    )
    seeknal = Cli(cwd=tmp_path)
    said = seeknal("run", code=1).said
    for node in VALUES:
        found = re.search(rf"source\.{node}: failed.*\n.*?as text, (columns: .*?}}}}), or ", said)
        assert found is not None, said
        with (tmp_path / f"seeknal/{node}.yml").open("a") as file:
            file.write(found[1] + "\n")
    seeknal("run")
    for node, value in VALUES.items():
        query = f"SELECT * FROM source.{node}"
        shown = seeknal("query", query, "--json").json()
        assert shown["rows"] == [{names[node]: db.value(f"SELECT ({value})::text")}]
