"""What `bench.scale` measures inside of a process: an environment's documents in the state folder.

Runs in a process of its own; its argument is a JSON document (`bench.measure.run_worker`).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.store import StateStore


def main() -> None:
    """Load an environment's record and manifest, or save them; print the seconds."""
    options = json.loads(sys.argv[-1])
    gc.set_threshold(50_000, 20, 20)  # as the command line does
    state, name = StateStore(Path(options["state"])), options["environment"]
    started = time.perf_counter()
    record, manifest = state.load(name), load_manifest(state, name)
    if options["do"] == "save":
        assert record is not None
        started = time.perf_counter()
        state.save(record)
        save_manifest(state, name, manifest)
    seconds = time.perf_counter() - started
    sys.stdout.write("\n" + json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
