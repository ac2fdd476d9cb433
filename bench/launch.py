"""Run one command as a whole process and tell its time and its peak memory.

``python -I -S launch.py FILE`` reads ``{"command", "cwd", "env", "output"}`` from standard
input, runs the command with its output in the file ``output``, and writes
``{"code", "seconds", "cpu_seconds", "peak_mb"}`` to FILE.

A program of its own, and one that imports little: the kernel counts the size of the process
that starts a command as that command's first peak, so a benchmark that has a database driver
loaded could not see a small one.

The peak has two sources, and the larger one counts: what the kernel kept of the largest single
process among the command and its descendants (exact, ``wait4``), and a sample of all of them
together every few milliseconds, where memory that several of them share counts once (``Pss``).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

INTERVAL = 0.01
_MEGA = 1024.0


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``, nearest first; empty where the kernel can't tell."""
    found = [pid]
    for parent in found:
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue  # it is gone
        for thread in threads:
            try:
                with open(f"/proc/{parent}/task/{thread}/children") as file:
                    found += [int(child) for child in file.read().split()]
            except OSError:
                continue
    return found[1:]


def resident_kb(pid: int) -> int:
    """Return a process's memory, its share of what it has in common with others."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass  # it is gone, or not ours
    return 0


def run(command: list[str], cwd: str, env: dict[str, str], output: str) -> dict[str, float]:
    """Run the command to its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    sampled = 0
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            os.chdir(cwd)
            null = os.open(os.devnull, os.O_RDONLY)
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(null, 0)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.execvpe(command[0], command, env)
        except OSError as error:
            os.write(2, f"{command[0]}: {error}\n".encode())
        finally:
            os._exit(127)
    while signal.sigtimedwait({signal.SIGCHLD}, INTERVAL) is None:
        # Alone, the process is what the kernel counts exactly.
        if below := descendants(pid):
            sampled = max(sampled, sum(resident_kb(each) for each in (pid, *below)))
    _, status, usage = os.wait4(pid, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": max(sampled, usage.ru_maxrss) / _MEGA,
    }


def main() -> None:
    """Run what standard input asks for."""
    given = json.load(sys.stdin)
    found = run(given["command"], given["cwd"], given["env"], given["output"])
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
