"""What a fuzz target is: a function of bytes that ends normally, or with an error of ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import attrs
import click

from seeknal_core.contract.errors import SeeknalError

CORPUS = Path(__file__).parent / "corpus"

#: Parts several texts of one input.
PARTED = b"\n=====\n"

Run = Callable[[bytes], None]
#: Gets a folder of its own, which is empty.
Open = Callable[[Path], AbstractContextManager[Run]]


@attrs.frozen(kw_only=True)
class Target:
    """A part of the program that reads what strangers write.

    Attributes:
        longest: bytes of an input.
        seconds: how long one input may take.
        words: what the fuzzer puts into inputs, beside what it finds in the code.
    """

    name: str
    open: Open
    longest: int = 2_000
    seconds: int = 5
    words: tuple[str, ...] = ()

    def corpus(self) -> list[Path]:
        """The inputs that are kept: every run of the tests replays them."""
        return sorted(path for path in (CORPUS / self.name).glob("*") if path.is_file())

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Run]:
        """Give the function that must not raise."""
        with self.open(folder) as run:

            def only_ours(data: bytes) -> None:
                # The command line's own errors are of click.
                with contextlib.suppress(SeeknalError, click.UsageError):
                    run(data)

            yield only_ours


def plain(run: Run) -> Open:
    """Make a target's opener of a function that needs no folder."""

    @contextlib.contextmanager
    def opened(_folder: Path) -> Iterator[Run]:
        yield run

    return opened


def parts(data: bytes, count: int) -> list[bytes]:
    """Part an input into so many texts, the last ones empty where it has fewer."""
    found = data.split(PARTED, count - 1)
    return found + [b""] * (count - len(found))


def text(data: bytes) -> str:
    """Read what came from a file: valid UTF-8."""
    return data.decode("utf-8", "ignore")


def argument(data: bytes) -> str:
    """Read what came from the command line."""
    return os.fsdecode(data.replace(b"\0", b""))


@contextlib.contextmanager
def environment_kept() -> Iterator[None]:
    """Undo what a ``.env`` sets."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if os.environ != before:
            os.environ.clear()
            os.environ.update(before)
