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
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from proxy.domain.errors import StoreUnavailable
from proxy.domain.model import Blob
from proxy.interfaces.store import IN_MEMORY

T = TypeVar("T")

FEW = 2
"""Files that are synced one after the other: making threads takes longer on an ordinary disk."""


class Runner:
    """Runs what blocks. Given the function and its arguments; returns its result."""

    at_once = 1
    """How many files are synced at a time."""

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        raise NotImplementedError


class ThreadRunner(Runner):
    """On the event loop's threads."""

    # A disk that takes seconds for one fsync takes about as long for many that wait together.
    at_once = 16

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
        self.run = run
        self.lock = asyncio.Lock()
        self.lost: set[bytes] = set()
        """Digests of blobs found missing or damaged and not yet replaced."""
        self.staged: dict[int, BlobWriter] = {}
        """Received whole, not yet durable; by `Blob.number`."""
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

    def writer(self) -> BlobWriter:
        return BlobWriter(self, next(self._numbers))

    async def make_durable(self, blobs: Collection[Blob], *, keep: bool = False) -> None:
        """Put staged blobs in their places, on disk; they are used up, whatever comes of it.

        A file that is there already is replaced by its equal, since nobody knows it is undamaged.
        With `keep` they stay staged until `let_go`, so that they can be added again.

        Raises:
            OSError: some are not; what is in its place already does no harm.
        """
        try:
            await self.run(self._write, [self.staged[blob.number] for blob in blobs])
        finally:
            if not keep:
                self.let_go(blobs)
        self.lost.difference_update(blob.digest for blob in blobs)

    def let_go(self, blobs: Iterable[Blob]) -> None:
        """These are in their places, or not wanted any more."""
        for blob in blobs:
            self.staged.pop(blob.number).discard()

    def _write(self, writers: Sequence[BlobWriter]) -> None:
        folders: set[Path] = set()
        try:
            for writer in writers:
                folder = self.path(writer.digest).parent
                if folder not in self._folders:
                    # That it exists does not mean that it outlives a power failure.
                    folder.mkdir(mode=0o700, exist_ok=True)
                    folders.add(self.folder)
                folders.add(folder)
            _together(BlobWriter.write_out, writers, self.run.at_once)
            for writer in writers:
                writer.rename(self.path(writer.digest))
            _together(_sync_folder, list(folders), self.run.at_once)
        except BaseException:
            for writer in writers:
                writer.step_back()
            raise
        self._folders |= folders

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
            # No row names it any more, so one that stays is swept at the next start.
            with suppress(OSError):
                self.path(digest).unlink()


class BlobWriter:
    """See `interfaces.store.BlobWriter`."""

    def __init__(self, blobs: Blobs, number: int) -> None:
        self.octets = 0
        self.digest = b""
        """Once all octets are in."""
        self._blobs = blobs
        self._number = number
        self._memory = bytearray()
        """Octets that are not in the file, or were not before it was written out."""
        self._spilled = 0
        """Octets that are in the file alone."""
        self._file: BinaryIO | None = None
        self._temporary = blobs.temporary / f"{number}"
        self._place = self._temporary
        """Where the file is."""
        self._hash = hashlib.sha256()
        # A message starts at the start of a line.
        self._last = b"\r\n"
        self._dots = False

    async def write(self, data: bytes) -> None:
        self._hash.update(data)
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
        self._spilled += len(data)

    def _append(self, data: bytes | bytearray) -> None:
        if self._file is None:
            self._file = _create(self._temporary)
            self._place = self._temporary
        _write_all(self._file, data)

    async def finish(self) -> Blob:
        self.digest = self._hash.digest()
        self._blobs.staged[self._number] = self
        return Blob(self.digest, self.octets, self._dots, self._number)

    async def abort(self) -> None:
        self._blobs.staged.pop(self._number, None)
        self.discard()

    async def renew(self) -> bool:
        try:
            return await to_the_end(self._blobs.run(self._renew))
        except OSError as error:
            raise StoreUnavailable(str(error)) from error

    def _renew(self) -> bool:
        """What a failed fsync has left unwritten counts as written ever after: every octet is
        written anew, the same where it is."""
        if not self._spilled:
            return True
        found, left = hashlib.sha256(), self._spilled
        try:
            self._file = file = open(self._place, "r+b", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            return False
        while left:
            try:
                part = file.read(min(left, IN_MEMORY))
            except OSError:
                return False
            if not part:
                return False
            found.update(part)
            left -= len(part)
            file.seek(-len(part), os.SEEK_CUR)
            _write_all(file, part)
        found.update(self._memory)
        return found.digest() == self.digest

    def write_out(self) -> None:
        """Have every octet in the file, on disk."""
        self._append(self._memory)
        assert self._file is not None  # noqa: S101 - _append has opened it
        os.fsync(self._file.fileno())
        self._close()

    def rename(self, path: Path) -> None:
        os.replace(self._place, path)
        self._place = path

    def step_back(self) -> None:
        """It was not made durable, and may be tried again. What memory has takes no room on the
        disk meanwhile."""
        self._close()
        if not self._spilled:
            self._unlink()

    def discard(self) -> None:
        """Let go of memory and of the temporary file."""
        self._memory = bytearray()
        self._close()
        self._unlink()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _unlink(self) -> None:
        # One that stays is swept at the next start.
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)
        self._place = self._temporary


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
    return open(descriptor, "wb", buffering=0)


def _write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    """To a file without a buffer, which may take a part at a time."""
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += file.write(view[written:])


def _together(function: Callable[[T], None], items: Sequence[T], at_once: int) -> None:
    """Each of them, so many at a time; returns when none is under way any more, also if one fails.

    Raises:
        OSError: the first that failed.
    """
    if at_once == 1 or len(items) <= FEW:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(min(at_once, len(items)), "blobs") as threads:
        done = [threads.submit(function, item) for item in items]
    for each in done:
        each.result()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
