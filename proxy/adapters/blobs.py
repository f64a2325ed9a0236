"""Messages as files named by their SHA-256: `blobs/ab/abcd…`, raw, CRLF line ends.

A file is written under a temporary name, synced, renamed, and its directory synced, before any row
names it. `lock` is held over that and the rows, and over dropping rows and the files, so that no
file is removed under a message that is just coming in with the same octets.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Blob
from proxy.interfaces.store import IN_MEMORY

T = TypeVar("T")

GUARD = "OLDER-VERSIONS-DELETE-MAIL.see-Upgrades-in-operating.md"
"""A folder among the temporary files. Versions that removed whatever their catalogue did not name
stop over it before they do so."""

_BLOB = re.compile(r"[0-9a-f]{64}")


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


class BlobLost(Exception):
    """A blob is missing, or not of its size."""


class Blobs:
    def __init__(self, folder: Path, run: Runner) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.orphans = folder / "orphans"
        self.run = run
        self.lock = asyncio.Lock()
        self.lost: set[bytes] = set()
        """Digests of blobs found missing or damaged and not yet replaced."""
        self.staged: dict[bytes, list[BlobWriter]] = {}
        """Received whole, not yet durable."""
        self._numbers = itertools.count()
        self._folders: set[Path] = set()
        """Folders whose own entry this process knows to be on disk."""

    def prepare(self) -> None:
        """Make the folders."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.temporary.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self.folder.parent)

    def drop_temporary(self) -> None:
        """Remove what a crash left of messages that were coming in."""
        for path in self.temporary.iterdir():
            with suppress(OSError):
                path.unlink()
        (self.temporary / GUARD).mkdir(mode=0o700, exist_ok=True)

    def set_aside(self, named: Collection[bytes]) -> int:
        """Have in their places the blobs that rows name, and no others; returns how many had to go.

        One that cannot be moved stays where it is, and does no harm.
        """
        names = {digest.hex() for digest in named}
        self.orphans.mkdir(mode=0o700, exist_ok=True)
        for digest in self.set_aside_before():
            if digest.hex() in names and not self.path(digest).exists():
                with suppress(OSError):
                    self._take_back(digest)
        count = 0
        for path in self.folder.glob("??/*"):
            if path.name not in names and _BLOB.fullmatch(path.name) and path.is_file():
                with suppress(OSError):
                    os.replace(path, self.orphans / path.name)
                    count += 1
        return count

    def set_aside_before(self) -> list[bytes]:
        """Digests of all that was ever set aside and is still there, in no order."""
        try:
            names = os.listdir(self.orphans)
        except FileNotFoundError:
            return []
        return [bytes.fromhex(name) for name in names if _BLOB.fullmatch(name)]

    def octets_aside(self, digest: bytes) -> tuple[Iterator[bytes], float]:
        """What was set aside under this digest, in parts, and when it was stored."""
        file = open(self.orphans / digest.hex(), "rb")  # noqa: SIM115 - closed when it is read
        stored_at = os.fstat(file.fileno()).st_mtime

        def parts() -> Iterator[bytes]:
            with file:
                while part := file.read(IN_MEMORY):
                    yield part

        return parts(), stored_at

    async def take_back(self, digest: bytes) -> None:
        """Have in its place, on disk, what was set aside; the caller has compared its octets.

        Raises:
            OSError
        """
        await self.run(self._take_back, digest)
        self.lost.discard(digest)

    def _take_back(self, digest: bytes) -> None:
        path, aside = self.path(digest), self.orphans / digest.hex()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
        _sync_folder(self.folder)
        _sync_folder(path.parent)

    def path(self, digest: bytes) -> Path:
        return blob_path(self.folder, digest)

    def writer(self) -> BlobWriter:
        number = next(self._numbers)
        while (temporary := self.temporary / f"{number}").exists():
            # Left by a crash, and there until the next start of the proxy.
            number = next(self._numbers)
        return BlobWriter(self, temporary)

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
        self.lost.difference_update(digest for digest, _ in writers)

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
            os.replace(writer.temporary, path)
            folders.add(path.parent)
        for folder in folders:
            _sync_folder(folder)
        self._folders |= folders
        for digest, _ in writers:
            # What a crash had left of it.
            with suppress(OSError):
                (self.orphans / digest.hex()).unlink()

    def open(self, digest: bytes, octets: int) -> BlobReader:
        """Raises:
        BlobLost: missing, or of another size.
        OSError: it cannot be opened now.
        """
        try:
            file = open(self.path(digest), "rb", buffering=0)  # noqa: SIM115 - closed by the reader
        except FileNotFoundError:
            raise BlobLost("is missing") from None
        if os.fstat(file.fileno()).st_size != octets:
            file.close()
            raise BlobLost("has another size than it should have")
        return BlobReader(file)

    async def is_intact(self, digest: bytes) -> bool:
        """Re-read the blob and compare."""
        return await self.run(self._digest_matches, digest)

    def _digest_matches(self, digest: bytes) -> bool:
        try:
            with open(self.path(digest), "rb") as file:
                return hashlib.file_digest(file, "sha256").digest() == digest
        except FileNotFoundError:
            return False

    async def remove(self, digests: Collection[bytes]) -> None:
        """Unlink; the caller has dropped every row that names them."""
        await self.run(self._remove, digests)

    def _remove(self, digests: Collection[bytes]) -> None:
        for digest in digests:
            # The catalogue has it among what is to go, so one that stays is tried again.
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
    """See `interfaces.store.BlobReader`."""

    def __init__(self, file: BinaryIO | Any) -> None:
        self._file = file

    def read(self, octets: int) -> bytes:
        try:
            data: bytes = self._file.read(octets)
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        return data

    def close(self) -> None:
        self._file.close()


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
