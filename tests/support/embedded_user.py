"""A program that uses a project's embedded server until its standard input ends.

Arguments: the project's folder; with a second one, the program works as
``nobody``, and the second names a folder that ``nobody`` can read, with a
Python (``bin/python``), the wheel of PostgreSQL's programs (``packages``), and
``keeper.py``; whatever else the program needs it imports before.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - loaded by the first connection, when it may be out of reach
import json
import os
import pwd
import sys

from seeknal_postgres.connection.embedded import keeper
from seeknal_postgres.connection.embedded.server import ensure_server


def main(project: str, reachable: str | None = None) -> None:
    if reachable:
        entry = pwd.getpwnam("nobody")
        sys.path.insert(0, f"{reachable}/packages")
        keeper.__file__ = f"{reachable}/keeper.py"
        sys.executable = f"{reachable}/bin/python"
        os.environ.pop("HOME", None)
        os.chdir("/")
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    server = ensure_server(f"{project}/target", project)
    dsn = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password.reveal(),
        "dbname": server.database,
    }
    print(json.dumps(dsn), flush=True)  # noqa: T201 - the answer to the test
    sys.stdin.read()
    server.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
