"""Fuzz what reads strangers' texts: ``tox run -e fuzz``, ``tox run -e fuzz -- sql templates``.

``SEEKNAL_FUZZ_MINUTES`` (10) are shared among the targets. Each runs in a process of its own,
guided by coverage of our packages. An input that fails is kept in the target's corpus, which
the ordinary tests replay, and its command is printed. ``--replay FILE`` runs one input.
``--keep N`` adds up to N inputs of a target that cover more than its corpus does.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_TESTS))

_OURS = ["seeknal_core", "seeknal_postgres", "seeknal_iceberg"]
_MEMORY_MB = 2048
#: Bytes of an input that is kept; a failing one is kept whatever its size.
_SMALL = 1_500


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/fuzz/run.py")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=int, default=0, metavar="N")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, seconds, grown = given.child
        _fuzz(name, int(seconds), Path(grown))
        return 0
    if given.replay:
        _replay(given.replay.resolve())
        return 0
    from fuzz.targets import names as listed

    known = listed()
    wrong = [name for name in given.targets if name not in known]
    if wrong:
        parser.error(f"no target {', '.join(wrong)}; there are {', '.join(known)}")
    names = given.targets or known
    minutes = float(os.environ.get("SEEKNAL_FUZZ_MINUTES") or 10)
    seconds = max(int(minutes * 60 / len(names)), 5)
    failed = [name for name in names if not _run(name, seconds, given.keep)]
    _say(f"failed: {', '.join(failed)}" if failed else f"{len(names)} targets, nothing found")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run(name: str, seconds: int, keep: int) -> bool:
    """Fuzz one target in a process of its own; return whether nothing was found."""
    from fuzz.target import CORPUS

    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    before = set(corpus.iterdir())
    with tempfile.TemporaryDirectory(prefix="seeknal-fuzz-") as scratch:
        grown, temporary = Path(scratch) / "grown", Path(scratch) / "tmp"
        grown.mkdir()
        temporary.mkdir()
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--child",
            name,
            str(seconds),
            str(grown),
        ]
        ended = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(temporary), "HOME": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = ended.stdout.decode("utf-8", "replace")
        count = re.search(r"number_of_executed_units: (\d+)", said) or re.search(
            r".*^#(\d+)", said, re.M | re.S
        )
        covered = re.findall(r"\bcov: (\d+)", said)
        _say(f"{name}: {count[1] if count else 0} inputs, {covered[-1] if covered else 0} edges")
        if keep and ended.returncode == 0:
            _keep(grown, corpus, said, keep)
    found = sorted(set(corpus.iterdir()) - before) if ended.returncode else []
    for path in found:
        _say(
            f"{name}: replay it: python tests/fuzz/run.py --replay {path.relative_to(_TESTS.parent)}"
        )
    if ended.returncode:
        _say("\n".join(line for line in said.splitlines()[-80:] if not line.startswith("INFO:")))
    return ended.returncode == 0


def _keep(grown: Path, corpus: Path, said: str, most: int) -> None:
    """Keep the inputs that were found last: each covers more than all before it."""
    newest = sorted(grown.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    small = [path for path in newest if path.stat().st_size <= _SMALL]
    for path in small[:most]:
        (corpus / f"grown-{path.name[:12]}").write_bytes(path.read_bytes())


def _fuzz(name: str, seconds: int, grown: Path) -> None:
    import atheris

    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=_OURS):
        from fuzz.targets import target as target_of

        target = target_of(name)
        corpus = target.corpus()
        folder = Path(tempfile.mkdtemp())
        opened = target.opened(folder)
        run = opened.__enter__()
        # What is imported only where it is used is so, too.
        for path in corpus:
            run(path.read_bytes())
    words = Path(tempfile.mkdtemp()) / "words"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in target.words), "ascii")
    prefix = str(_TESTS / "fuzz" / "corpus" / name / "found-")
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={target.seconds}",
        f"-report_slow_units={target.seconds + 1}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-max_len={target.longest}",
        f"-artifact_prefix={prefix}",
        "-print_final_stats=1",
        *([f"-dict={words}"] if target.words else []),
        str(grown),
        *([str(corpus[0].parent)] if corpus else []),
    ]
    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


def _quoted(word: str) -> str:
    """Write a word as libFuzzer's dictionaries have it."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in word.encode()
    )


def _replay(path: Path) -> None:
    from fuzz.targets import target as target_of

    target = target_of(path.parent.name)
    with tempfile.TemporaryDirectory() as folder, target.opened(Path(folder)) as run:
        run(path.read_bytes())
    _say(f"{path.name}: nothing wrong")


if __name__ == "__main__":
    sys.exit(main())
