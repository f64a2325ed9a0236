"""Bringing blobs and files from one data directory or backup to another."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from proxy.adapters.folders import Folder

CHUNK = 1024 * 1024

Progress = Callable[[int, int], None]
"""Told how many blobs are done, and of how many."""


class BlobCopy:
    """Links where it may and can, copies otherwise; what is there already is left alone."""

    def __init__(self, source: Folder, target: Folder, *, link: bool) -> None:
        """Those of the folders that have the blobs in them."""
        self._source = source
        self._target = target
        self._link = link
        self.octets = 0
        """Of those that were copied or linked."""
        self.missing: set[bytes] = set()
        self._damaged: set[bytes] = set()

    def take(self, digests: Iterable[bytes], progress: Progress) -> None:
        wanted = list(digests)
        self.missing = set()
        for number, digest in enumerate(wanted):
            progress(number, len(wanted))
            if digest not in self._damaged and not self._take(digest):
                self.missing.add(digest)
        progress(len(wanted), len(wanted))

    def _take(self, digest: bytes) -> bool:
        """False: it is neither there nor here."""
        name = digest.hex()
        with ExitStack() as opened:
            try:
                source = opened.enter_context(shelf(self._source, name))
            except FileNotFoundError:
                source = None
            found = source.status(name) if source is not None else None
            if source is None or found is None:
                with suppress(FileNotFoundError), shelf(self._target, name) as target:
                    return target.status(name) is not None
                return False
            target = opened.enter_context(shelf(self._target, name, make=True))
            if self._is_there(found, target, digest):
                return True
            try:
                self._bring(source, target, digest)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # One block that cannot be read holds up no other message.
                self._damaged.add(digest)
            return True

    def _is_there(self, found: os.stat_result, target: Folder, digest: bytes) -> bool:
        """A link to a file that was repaired since is one to the damaged file; one that a power cut
        has left is empty."""
        there = target.status(digest.hex())
        if there is None:
            return False
        if self._link:
            return os.path.samestat(there, found)
        return stat.S_ISREG(there.st_mode) and _digest(target, digest.hex()) == digest

    def _bring(self, source: Folder, target: Folder, digest: bytes) -> None:
        name = digest.hex()
        if self._link:
            fresh = f"{name}.part"
            target.remove(fresh)
            # What is no plain file is refused here.
            source.open(name, own=False).close()
            if target.status(name) is not None and _digest(source, name) != digest:
                # What the backup has of an earlier time may be whole.
                self._damaged.add(digest)
                return
            try:
                target.link(source, name, fresh)
            except FileNotFoundError:
                raise
            except OSError:
                # Another file system, or one without links.
                self._link = False
            else:
                target.rename(fresh, name)
                self._count(target, name)
                return
        if copy_file(source, name, target, name, digest):
            self._count(target, name)
        else:
            self._damaged.add(digest)

    def _count(self, target: Folder, name: str) -> None:
        if (made := target.status(name)) is not None:
            self.octets += made.st_size

    def lost(self, named: set[bytes]) -> tuple[str, ...]:
        """SHA-256 of those that should be there and are not."""
        lost = self._damaged | (self.missing & named)
        return tuple(sorted(digest.hex() for digest in lost))


@contextmanager
def shelf(folder: Folder, name: str, *, make: bool = False) -> Iterator[Folder]:
    """The folder that a blob of this name is in."""
    with folder.within("blobs", make=make) as blobs, blobs.within(name[:2], make=make) as found:
        yield found


def copy_file(
    source: Folder, name: str, target: Folder, target_name: str, digest: bytes | None = None
) -> bool:
    """Copy, under a temporary name first; False: its octets are not those of the digest.

    Without a digest, nothing tells a file of the folder from one of somebody else.
    """
    temporary = f"{target_name}.part"
    found = hashlib.sha256()
    with source.open(name, own=digest is None) as reader:
        target.remove(temporary)
        with target.make(temporary, os.fstat(reader.fileno()).st_mode & 0o644) as writer:
            while part := reader.read(CHUNK):
                found.update(part)
                writer.write(part)
    if digest is not None and found.digest() != digest:
        target.remove(temporary)
        return False
    target.rename(temporary, target_name)
    return True


def _digest(folder: Folder, name: str) -> bytes:
    with folder.open(name, own=False) as file:
        return hashlib.file_digest(file, "sha256").digest()
