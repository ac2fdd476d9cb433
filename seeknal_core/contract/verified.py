"""Reading stored files so that every byte that is given out is one that was stored.

A file's digest is one over the digests of its pieces, so a reader checks each piece as it
reads it, in the same pass: nobody can change the file between a check and its use.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

import attrs

from seeknal_core.contract.errors import DamagedOutput

if TYPE_CHECKING:
    import hashlib
    from concurrent.futures import ThreadPoolExecutor

#: Bytes of one piece. Part of the digest's definition: another size is another digest.
PIECE = 8 * 2**20
#: Pieces of a file that stay in memory: a reader of columns goes back and forth a little.
_KEPT = 2
_THREADS = 2
#: Pieces that are read and checked while one is written.
_AHEAD = 3


@attrs.frozen(kw_only=True)
class FileSums:
    """What a stored file's bytes are known to be.

    ``pieces`` are empty in what earlier versions stored. ``stamp`` is the file's `stamp_of`
    when this process last checked all of it, None where it didn't.
    """

    bytes: int
    digest: str
    pieces: tuple[str, ...] = ()
    stamp: tuple[int, ...] | None = None


def root_of(size: int, pieces: Sequence[str]) -> str:
    """Return a file's digest, in hexadecimal, given its size and its pieces' digests."""
    whole = _sha256(size.to_bytes(8, "little"))
    for one in pieces:
        whole.update(bytes.fromhex(one))
    return whole.hexdigest()


def piece_digest(descriptor: int, offset: int, size: int) -> str:
    """Return the digest of the piece of a file that begins at an offset."""
    return _sha256(_piece(descriptor, offset, size)).hexdigest()


def piece_digests(descriptor: int, size: int) -> tuple[str, ...]:
    """Return the digests of all pieces of a file, in hexadecimal."""
    offsets = range(0, size, PIECE)

    def one(offset: int) -> str:
        return piece_digest(descriptor, offset, size)

    if len(offsets) < 2:
        return tuple(map(one, offsets))
    with _threads() as pool:
        return tuple(pool.map(one, offsets))


# This module is imported at start-up, and these two take longer than all the rest of it.


def _sha256(content: bytes) -> hashlib._Hash:
    import hashlib

    return hashlib.sha256(content)


def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_THREADS)


def _piece(descriptor: int, offset: int, size: int) -> bytes:
    # pread has no shared position, so threads don't disturb each other.
    return os.pread(descriptor, min(PIECE, size - offset), offset)


def stamp_of(descriptor: int) -> tuple[int, ...]:
    """Return what changes whenever an open file does: nobody can set a file's ctime."""
    return _stamp(os.fstat(descriptor))


def stamp_at(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return the `stamp_of` of the file at a path."""
    return _stamp(os.stat(path))


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class VerifiedFile(io.RawIOBase):
    """A stored file that checks each piece before it gives a byte of it out.

    Args:
        descriptor: of the opened file, which stays open as long as this is used.
    """

    def __init__(self, descriptor: int, node: str, sums: FileSums) -> None:
        self._descriptor = descriptor
        self._node = node
        self._size = sums.bytes
        self._place = 0
        self._held: dict[int, bytes] = {}
        if os.fstat(descriptor).st_size != sums.bytes:
            raise changed(node)
        pieces = sums.pieces or piece_digests(descriptor, sums.bytes)
        if len(pieces) != -(-sums.bytes // PIECE) or root_of(sums.bytes, pieces) != sums.digest:
            raise changed(node)
        self._pieces = pieces

    @property
    def size(self) -> int:
        """The file's bytes."""
        return self._size

    def readable(self) -> bool:
        """Return whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Return whether it can be read at any place: yes."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte that is read."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        """Read some bytes, all that are left where no number is given."""
        end = self._size
        if size is not None and size >= 0:
            end = min(end, self._place + size)
        parts = []
        while self._place < end:
            number = self._place // PIECE
            start = number * PIECE
            part = memoryview(self._checked(number))[self._place - start : end - start]
            parts.append(part)
            self._place += len(part)
        return b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read into a buffer."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def chunks(self, end: int) -> Iterator[bytes]:
        """Yield the bytes up to a place in order; the next ones are read and checked meanwhile."""
        count = -(-end // PIECE)
        with _threads() as pool:
            ahead = deque(pool.submit(self._fresh, n) for n in range(min(count, _AHEAD)))
            for number in range(count):
                piece = ahead.popleft().result()
                if number + _AHEAD < count:
                    ahead.append(pool.submit(self._fresh, number + _AHEAD))
                yield piece[: end - number * PIECE]

    def _checked(self, number: int) -> bytes:
        found = self._held.pop(number, None)
        if found is None:
            found = self._fresh(number)
            while len(self._held) >= _KEPT:
                del self._held[next(iter(self._held))]
        self._held[number] = found
        return found

    def _fresh(self, number: int) -> bytes:
        found = _piece(self._descriptor, number * PIECE, self._size)
        if _sha256(found).hexdigest() != self._pieces[number]:
            raise changed(self._node)
        return found


@contextlib.contextmanager
def opened(path: str, node: str, sums: FileSums | None) -> Iterator[BinaryIO | VerifiedFile]:
    """Open a stored file; a byte that is not as it was stored is never given out for good.

    Where this process has checked the whole file, it is read as it is, and looked at again
    at the end of the block: the rows that were read count only if the block ends well.

    Args:
        node: whose output it is.
        sums: what is known of it; None for a file that nothing is known of.

    Raises:
        DamagedOutput: it is not what was stored.
    """
    try:
        plain = open(path, "rb")  # noqa: SIM115 - closed below, or by the checking file
    except FileNotFoundError:
        raise changed(node) from None
    with plain:
        if sums is None:
            yield plain
        elif sums.stamp is not None and stamp_of(plain.fileno()) == sums.stamp:
            yield plain
            # Parquet readers open it by its name.
            if not stamp_of(plain.fileno()) == stamp_at(path) == sums.stamp:
                raise changed(node)
        else:
            yield VerifiedFile(plain.fileno(), node, sums)


def chunks(file: BinaryIO, node: str, end: int) -> Iterator[bytes]:
    """Yield the bytes of a file that `opened` gave, up to a place, in order.

    Raises:
        DamagedOutput: it is not what was stored, or shorter.
    """
    if isinstance(file, VerifiedFile):
        yield from file.chunks(end)
        return
    while end:
        chunk = file.read(min(end, PIECE))
        if not chunk:
            raise changed(node)
        yield chunk
        end -= len(chunk)


def check(path: str, node: str, sums: FileSums) -> tuple[int, ...]:
    """Compare all bytes of a stored file with what was stored.

    Returns:
        The file's stamp: while it is the same, so are the bytes.

    Raises:
        DamagedOutput: they differ.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise changed(node) from None
    try:
        stamp = stamp_of(descriptor)
        found = root_of(stamp[0], piece_digests(descriptor, stamp[0]))
        if (stamp[0], found) != (sums.bytes, sums.digest) or stamp_of(descriptor) != stamp:
            raise changed(node)
        return stamp
    finally:
        os.close(descriptor)


def changed(node: str) -> DamagedOutput:
    """Return the error about a stored output that is not what was stored."""
    return DamagedOutput(
        f"the stored output of {node} was damaged on the disk since it was stored; "
        "nothing of it was used",
        "run the same command again: what is damaged is computed anew",
        node=node,
    )
