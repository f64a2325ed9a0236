"""Messages as files named by their SHA-256: `blobs/ab/abcd…`, raw, CRLF line ends.

A file is written under a temporary name, synced, renamed, and its directory synced, before any row
names it. `lock` is held over that and the rows, and over dropping rows and the files, so that no
file is removed under a message that is just coming in with the same octets.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Blob
from proxy.interfaces.store import IN_MEMORY

T = TypeVar("T")


class Runner:
    """Runs what blocks. Given the function and its arguments; returns its result."""

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        raise NotImplementedError


class ThreadRunner(Runner):
    """On the event loop's threads."""

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


class InlineRunner(Runner):
    """On the spot, for the simulation."""

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)


async def to_the_end(work: Awaitable[T]) -> T:
    """Await work that must not be left half-way: a thread that writes cannot be called back.

    A cancellation is raised once the work is done.
    """
    task = asyncio.ensure_future(work, loop=asyncio.get_running_loop())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, so that asyncio does not report it as overlooked.
            task.exception()
        raise


def blob_path(folder: Path, digest: bytes) -> Path:
    """Where under the folder of all blobs this one is."""
    name = digest.hex()
    return folder / name[:2] / name


PASSING = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR)
)
"""Errors that tell of the process or of the machine, and nothing of a file."""


class Blobs:
    def __init__(self, folder: Path, run: Runner) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self._start = f"{folder}/"
        self.run = run
        self.lock = asyncio.Lock()
        self.lost: dict[bytes, set[int]] = {}
        """Digests of blobs found missing, damaged or unreadable and not whole again so far, each
        with the ids of devices that have asked for it in vain. The rows' `blob_lost` is the copy
        of this that outlives the process."""
        self.changes = 0
        """How often `lost` has changed, and with it what devices may see."""
        self.staged: dict[bytes, list[BlobWriter]] = {}
        """Received whole, not yet durable."""
        self._numbers = itertools.count()
        self._folders: set[Path] = set()
        """Folders whose own entry this process knows to be on disk."""

    def prepare(self, referenced: Iterable[bytes]) -> None:
        """Make the folders; remove what a crash left: temporary files, blobs no row names."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.temporary.mkdir(mode=0o700, exist_ok=True)
        for path in self.temporary.iterdir():
            path.unlink()
        names = {digest.hex() for digest in referenced}
        for path in self.folder.glob("??/*"):
            if path.name not in names:
                path.unlink()
        _sync_folder(self.folder.parent)

    def path(self, digest: bytes) -> Path:
        return blob_path(self.folder, digest)

    def _file(self, digest: bytes) -> str:
        """As `path`, for what has no time to lose."""
        name = digest.hex()
        return f"{self._start}{name[:2]}/{name}"

    def writer(self) -> BlobWriter:
        return BlobWriter(self, self.temporary / f"{next(self._numbers)}")

    async def make_durable(self, digests: Iterable[bytes]) -> None:
        """Put staged blobs in their places, on disk; one is used up for each digest.

        A file that is there already is replaced by its equal, since nobody knows it is undamaged.

        Raises:
            OSError: some are not; what is in its place already does no harm.
        """
        writers = [(digest, self._take(digest)) for digest in digests]
        try:
            await self.run(self._write, writers)
        finally:
            for _, writer in writers:
                writer.discard()
        self.note_found(digest for digest, _ in writers)

    def _take(self, digest: bytes) -> BlobWriter:
        waiting = self.staged[digest]
        writer = waiting.pop()
        if not waiting:
            del self.staged[digest]
        return writer

    def _write(self, writers: list[tuple[bytes, BlobWriter]]) -> None:
        folders: set[Path] = set()
        for digest, writer in writers:
            path = self.path(digest)
            if path.parent not in self._folders:
                # That it exists does not mean that it outlives a power failure.
                path.parent.mkdir(mode=0o700, exist_ok=True)
                folders.add(self.folder)
            writer.write_out()
            try:
                os.replace(writer.temporary, path)
            except IsADirectoryError:
                self._set_aside(path)
                os.replace(writer.temporary, path)
            folders.add(path.parent)
        for folder in folders:
            _sync_folder(folder)
        self._folders |= folders

    def _set_aside(self, path: Path) -> None:
        """A folder in a blob's place is nothing of ours, and may hold what somebody misses."""
        aside = self.folder / "orphans"
        aside.mkdir(mode=0o700, exist_ok=True)
        path.rename(Path(tempfile.mkdtemp(dir=aside)) / path.name)

    def open(
        self, digest: bytes, octets: int, on_lost: Callable[[], None] = lambda: None
    ) -> BlobReader:
        """`on_lost` is called when it is found missing, unreadable, no plain file, of another size,
        or, by the reader, of other octets.

        Raises:
            StoreUnavailable: it is lost, or cannot be opened now.
        """
        try:
            descriptor, size = _open_plain(self._file(digest))
        except OSError as error:
            raise _unreadable(digest, error, on_lost) from None
        if size != octets:
            os.close(descriptor)
            on_lost()
            raise StoreUnavailable(f"blob {digest.hex()} has another size than it should have")
        return BlobReader(descriptor, digest, octets, on_lost)

    async def is_intact(self, digest: bytes) -> bool:
        """Re-read the blob and compare.

        Raises:
            OSError: that cannot be told now.
        """
        return await self.run(self._digest_matches, digest)

    def _digest_matches(self, digest: bytes) -> bool:
        try:
            descriptor, _ = _open_plain(self._file(digest))
            with open(descriptor, "rb", buffering=0) as file:
                return hashlib.file_digest(file, "sha256").digest() == digest
        except OSError as error:
            if error.errno in PASSING:
                raise
            return False

    def note_lost(self, digest: bytes, device: int | None = None) -> bool:
        """It was found so, perhaps when this device asked for it; returns whether that is news."""
        is_news = digest not in self.lost
        asked = self.lost.setdefault(digest, set())
        before = len(asked)
        asked.update(() if device is None else (device,))
        self.changes += is_news or len(asked) > before
        return is_news

    def note_found(self, digests: Iterable[bytes]) -> None:
        """These are whole."""
        for digest in digests:
            if self.lost.pop(digest, None) is not None:
                self.changes += 1

    async def remove(self, digests: Collection[bytes]) -> None:
        """Unlink; the caller has dropped every row that names them."""
        await self.run(self._remove, digests)
        for digest in digests:
            self.lost.pop(digest, None)

    def _remove(self, digests: Collection[bytes]) -> None:
        for digest in digests:
            # No row names it any more, so one that stays is swept at the next start.
            with suppress(OSError):
                self.path(digest).unlink()


class BlobWriter:
    """See `interfaces.store.BlobWriter`."""

    def __init__(self, blobs: Blobs, temporary: Path) -> None:
        self.temporary = temporary
        self.octets = 0
        self._blobs = blobs
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        # A message starts at the start of a line.
        self._last = b"\r\n"
        self._dots = False
        self._finished: bytes | None = None

    async def write(self, data: bytes) -> None:
        self._digest.update(data)
        if not self._dots:
            seam = self._last + data
            self._dots = b"\r\n." in seam
            self._last = seam[-2:]
        self.octets += len(data)
        self._memory += data
        if len(self._memory) >= IN_MEMORY:
            await self._spill()

    async def _spill(self) -> None:
        data, self._memory = self._memory, bytearray()
        try:
            await to_the_end(self._blobs.run(self._append, data))
        except OSError as error:
            raise StoreUnavailable(str(error)) from error

    def _append(self, data: bytes | bytearray) -> None:
        if self._file is None:
            self._file = _create(self.temporary)
        self._file.write(data)

    async def finish(self) -> Blob:
        digest = self._finished = self._digest.digest()
        self._blobs.staged.setdefault(digest, []).append(self)
        return Blob(digest, self.octets, self._dots)

    async def abort(self) -> None:
        if self._finished is not None:
            waiting = self._blobs.staged.get(self._finished, [])
            if self in waiting:
                waiting.remove(self)
            if not waiting:
                self._blobs.staged.pop(self._finished, None)
        self.discard()

    def write_out(self) -> None:
        """Have every octet in the temporary file, on disk."""
        self._append(self._memory)
        assert self._file is not None  # noqa: S101 - _append has opened it
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Let go of memory and of the temporary file."""
        self._memory = bytearray()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            # One that stays is swept at the next start.
            with suppress(OSError):
                self.temporary.unlink()


class BlobReader:
    """See `interfaces.store.BlobReader`.

    Every reading is hashed, and none trusted for an earlier one: a disk that fails changes a file
    and leaves its times as they were.
    """

    __slots__ = ("_descriptor", "_digest", "_left", "_on_lost", "_wanted")

    def __init__(
        self, descriptor: int, digest: bytes, octets: int, on_lost: Callable[[], None]
    ) -> None:
        self._descriptor = descriptor
        self._wanted = digest
        self._left = octets
        self._digest = hashlib.sha256()
        self._on_lost = on_lost

    def read(self, octets: int) -> bytes:
        try:
            data = os.read(self._descriptor, min(octets, self._left))
        except OSError as error:
            raise _unreadable(self._wanted, error, self._on_lost) from error
        self._digest.update(data)
        self._left -= len(data)
        ends_early = not data and self._left
        if ends_early or (not self._left and self._digest.digest() != self._wanted):
            self._on_lost()
            raise StoreUnavailable(f"blob {self._wanted.hex()} is damaged")
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_plain(path: str) -> tuple[int, int]:
    """Returns a descriptor and the file's size.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    # Nothing is followed, nor waited for, that was put in a blob's place.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no plain file")
    return descriptor, status.st_size


def _unreadable(digest: bytes, error: OSError, on_lost: Callable[[], None]) -> StoreUnavailable:
    """What to raise for it."""
    if error.errno not in PASSING:
        on_lost()
    return StoreUnavailable(f"blob {digest.hex()}: {error}")


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
