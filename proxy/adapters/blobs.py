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
import re
import stat
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
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

GUARD = "OLDER-VERSIONS-DELETE-MAIL.see-Upgrades-in-operating.md"
"""A folder among the temporary files. Versions that removed whatever their catalogue did not name
stop over it before they do so."""

_BLOB = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,18}")


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


PASSING = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR)
)
"""Errors that tell of the process or of the machine, and nothing of a file."""


class Blobs:
    def __init__(self, folder: Path, run: Runner) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self._start = f"{folder}/"
        self.orphans = folder / "orphans"
        self.run = run
        self.lock = asyncio.Lock()
        self.lost: dict[bytes, set[int]] = {}
        """Digests of blobs found missing, damaged or unreadable and not whole again so far, each
        with the ids of devices that have asked for it in vain. The rows' `blob_lost` is the copy
        of this that outlives the process."""
        self.changes = 0
        """How often `lost` has changed, and with it what devices may see."""
        self.staged: dict[int, BlobWriter] = {}
        """Received whole, not yet durable; by `Blob.number`."""
        self._numbers = itertools.count()
        self._folders: set[Path] = set()
        """Folders whose own entry this process knows to be on disk."""

    def prepare(self) -> None:
        """Make the folders."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.temporary.mkdir(mode=0o700, exist_ok=True)
        # What a crash has left is there until the next start of the proxy.
        left = [int(name) for name in os.listdir(self.temporary) if _NUMBER.fullmatch(name)]
        self._numbers = itertools.count(max(left, default=-1) + 1)
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
            if digest.hex() in names:
                with suppress(OSError):
                    if not self.path(digest).exists():
                        self._take_back(digest)
                    elif self._digest_matches(digest):
                        # A crash has left this one when the other came.
                        (self.orphans / digest.hex()).unlink()
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
        """What was set aside under this digest, in parts, and when it was stored.

        Raises:
            OSError: it cannot be read, or is no plain file.
        """
        descriptor, _ = _open_plain(f"{self.orphans / digest.hex()}")
        file = open(descriptor, "rb")  # noqa: SIM115 - closed when it is read
        stored_at = os.fstat(descriptor).st_mtime

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
        self.note_found([digest])

    def _take_back(self, digest: bytes) -> None:
        path, aside = self.path(digest), self.orphans / digest.hex()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor, _ = _open_plain(f"{aside}")
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
        _sync_folder(self.folder)
        _sync_folder(path.parent)

    def path(self, digest: bytes) -> Path:
        return blob_path(self.folder, digest)

    def _file(self, digest: bytes) -> str:
        """As `path`, for what has no time to lose."""
        name = digest.hex()
        return f"{self._start}{name[:2]}/{name}"

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
        self.note_found(blob.digest for blob in blobs)

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
                self._put(writer)
            _together(_sync_folder, list(folders), self.run.at_once)
        except BaseException:
            for writer in writers:
                writer.step_back()
            raise
        self._folders |= folders
        for writer in writers:
            # What a crash had left of it.
            with suppress(OSError):
                (self.orphans / writer.digest.hex()).unlink()

    def _put(self, writer: BlobWriter) -> None:
        path = self.path(writer.digest)
        try:
            writer.rename(path)
        except IsADirectoryError:
            self._set_aside(path)
            writer.rename(path)

    def _set_aside(self, path: Path) -> None:
        """A folder in a blob's place is nothing of ours, and may hold what somebody misses."""
        self.orphans.mkdir(mode=0o700, exist_ok=True)
        path.rename(Path(tempfile.mkdtemp(dir=self.orphans)) / path.name)

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

    async def remove(self, digests: Collection[bytes]) -> list[bytes]:
        """Unlink; the caller has dropped every row that names them. Returns those that stay."""
        for digest in digests:
            self.lost.pop(digest, None)
        try:
            return await self.run(self._remove, digests)
        except OSError:
            return list(digests)

    def _remove(self, digests: Collection[bytes]) -> list[bytes]:
        stay = []
        for digest in digests:
            try:
                self.path(digest).unlink(missing_ok=True)
            except OSError:
                # The catalogue has it among what is to go, so it is tried again.
                stay.append(digest)
        return stay


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
